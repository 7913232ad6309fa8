"""The closed loop through a real Kafka and real services: fault in, decision, obeyed, recovery verified, the way back."""

from __future__ import annotations

from pathlib import Path

import pytest
from brokers import make_settings

from layerwatch.broker.local import LocalBroker
from layerwatch.cli import live_loop
from layerwatch.evaluation.loop import world

pytestmark = pytest.mark.kafka


def test_faults_are_decided_on_obeyed_and_over(own_broker: LocalBroker, tmp_path: Path) -> None:
    settings = make_settings(own_broker, tmp_path)
    settings = settings.model_copy(
        update={"kafka": settings.kafka.model_copy(update={"bootstrap": own_broker.bootstrap})}
    )
    story = live_loop.run(settings, tmp_path, speed=60.0)
    last = {decision.id: decision for decision in story.decisions}
    told = [(d.action, d.outcome.verdict if d.outcome else "") for d in last.values()]
    assert told.count(("scale_out", "confirmed")) == 1
    assert told.count(("fallback_precision", "confirmed")) == world.REPLICAS
    assert [action for action, _ in told].count("restore") == world.REPLICAS
    assert max(second.replicas for second in story.seconds) > world.REPLICAS
    assert max(second.on_fp16 for second in story.seconds) == world.REPLICAS
    end = story.seconds[-1]
    assert (end.replicas, end.on_fp16, end.wrong) == (world.REPLICAS, 0, 0.0)
    assert story.wrong < 1000, "3883 where nobody obeys"
