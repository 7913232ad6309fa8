"""A neighbour came to a real runtime's GPU; what the agent recorded there becomes an alert with the right cause.

`tests/data/cotenant-h200.lwlog` is what `layerwatch agent --to` wrote beside `tests/gpu/serve.py` on an H200: an encoder of four
blocks with two optimization profiles, 10 % of the executions sampled, 64 s. For ten of them another process multiplied
matrices on the same GPU.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from stack import Service, alerts, load, offline, patient_settings, running, send, wait_for_decisions

from layerwatch.broker.local import LocalBroker
from layerwatch.schemas.times import unix_s

pytestmark = pytest.mark.kafka

RECORDING = Path(__file__).resolve().parents[1] / "data" / "cotenant-h200.lwlog"
#: When the neighbour was at work, as the script that started and ended it noted (unix s).
NEIGHBOUR_S = (1795420940.3, 1795420950.4)


def test_a_neighbour_that_the_agent_recorded_becomes_an_alert_through_kafka(
    fresh_kafka: LocalBroker, tmp_path: Path
) -> None:
    recording = load(RECORDING, "cotenant", "cotenant-0")
    settings = patient_settings(fresh_kafka, tmp_path)
    with running(Service("processor", settings), Service("decision", settings)):
        send(settings, recording)
        wait_for_decisions(settings, "cotenant", offline(recording))
    told = alerts(settings, "cotenant")
    assert {alert.id for alert in told} == {told[0].id}, "one trouble, one alert"
    assert {alert.causes[0].cause for alert in told} == {"gpu_contention"}
    assert told[0].severity == "warning"
    assert told[-1].status == "resolved"
    opened_s, closed_at = unix_s(told[0].opened_at), told[-1].closed_at
    assert NEIGHBOUR_S[0] - 0.5 < opened_s < NEIGHBOUR_S[0] + 3
    assert closed_at is not None
    assert unix_s(closed_at) < NEIGHBOUR_S[1] + 3
    evidence = told[-1].causes[0].evidence
    assert evidence.startswith("SM utilisation 3 -> 7"), evidence
