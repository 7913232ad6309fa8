"""What counts as caught, in time, rightly named and falsely alarmed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from layerwatch.evaluation.executions import InstanceTable
from layerwatch.evaluation.verdict import FaultVerdict, Judgement, judge
from layerwatch.recording.recording import Phase
from layerwatch.schemas.alerts import Alert, Cause, Impact, LayerExcess
from layerwatch.schemas.times import rfc3339

T0_S = 1_795_341_600.0


def phase(name: str, start_s: float, end_s: float, healthy: bool = False) -> Phase:
    return Phase(name, T0_S + start_s, T0_S + end_s, healthy)


PHASES = [
    phase("normal", 0, 10, healthy=True),
    phase("cpu_starve", 10, 20),
    phase("normal", 20, 30, healthy=True),
]


def alert(at_s: float, cause: str = "host_starvation", group: str = "", **changes: Any) -> Alert:
    layers = [LayerExcess("fc", group, 0, 1.0, 2.0, 2.0, 1.0)] if group else []
    fields: dict[str, Any] = {
        "id": f"a-{at_s}",
        "revision": 1,
        "status": "firing",
        "severity": "warning",
        "kind": "host_gap",
        "service": "s",
        "scope": "instance",
        "instances": ["i"],
        "engine": "sha256:1",
        "host": "",
        "gpu": "",
        "started_at": rfc3339(T0_S + at_s - 1),
        "opened_at": rfc3339(T0_S + at_s),
        "updated_at": rfc3339(T0_S + at_s),
        "summary": "",
        "impact": Impact(1, 1, 1.0, 1.0, 1.0, 1.0),
        "buckets": [],
        "layers": layers,
        "causes": [Cause(cause, 0.9, "seen"), Cause("load", 0.1, "seen")],
        "detectors": [],
    }
    return Alert(**(fields | changes))


def table(per_s: float, switched_every: int = 0) -> InstanceTable:
    times_s = T0_S + np.arange(0, 30, 1 / per_s) + 1e-3
    switched = np.zeros(len(times_s), bool)
    if switched_every:
        switched[::switched_every] = True
    ones = np.ones(len(times_s))
    return InstanceTable("i", times_s, ones, ones.astype(np.int64), switched, [])


def fault(
    *revisions: Alert, name: str = "cpu_starve", tables: list[InstanceTable] | None = None
) -> FaultVerdict:
    phases = [PHASES[0], phase(name, 10, 20), PHASES[2]]
    return judge(phases, revisions, tables).faults[0]


def false_alarms(revisions: Sequence[Alert], phases: Sequence[Phase] = PHASES) -> list[float]:
    return [found.at_s - T0_S for found in judge(phases, revisions).false_alarms]


def test_an_alert_within_the_phase_catches_it_after_the_time_that_has_passed() -> None:
    verdict = fault(alert(12.5))
    assert (verdict.caught, verdict.delay_s, verdict.alerts) == (True, 2.5, 1)
    assert not fault().caught


def test_an_info_catches_nothing_and_is_no_false_alarm() -> None:
    informed = [alert(5, severity="info"), alert(12, severity="info")]
    assert not fault(*informed).caught
    assert false_alarms(informed) == []


def test_an_alert_counts_from_the_moment_at_which_it_became_a_warning() -> None:
    info = alert(11, severity="info")
    warning = alert(11, revision=2, severity="warning", updated_at=rfc3339(T0_S + 14))
    worse = alert(11, revision=3, severity="critical", updated_at=rfc3339(T0_S + 16))
    verdict = fault(info, warning, worse)
    assert verdict.delay_s == 4.0
    assert verdict.first is not None
    assert (verdict.first.worst, verdict.alerts) == ("critical", 1)


@pytest.mark.parametrize(
    ("at_s", "false"), [(9.9, True), (10.1, False), (21.9, False), (22.1, True), (31.0, True)]
)
def test_only_an_alert_outside_of_a_fault_and_its_two_seconds_is_false(at_s: float, false: bool) -> None:
    assert bool(false_alarms([alert(at_s)])) is false


def test_an_alert_just_after_the_end_neither_catches_nor_is_false() -> None:
    verdict = fault(alert(21))
    assert (verdict.caught, verdict.alerts) == (False, 1)


def test_how_long_the_last_alert_outlives_the_fault_is_told() -> None:
    closed = alert(12, revision=2, status="resolved", closed_at=rfc3339(T0_S + 26))
    assert fault(alert(12), closed).closed_after_s == 6.0
    assert fault(alert(12)).closed_after_s is None


def test_an_alert_in_a_fault_belongs_to_it_and_not_to_the_one_that_has_just_ended() -> None:
    phases = [phase("cpu_starve", 10, 20), phase("cotenant_h2d", 20.5, 30)]
    first, second = judge(phases, [alert(21, "pcie_contention")]).faults
    assert (first.caught, first.alerts) == (False, 0)
    assert (second.caught, second.cause_right) == (True, True)


def test_false_alarms_are_told_by_phase_and_also_between_phases() -> None:
    phases = [*PHASES, phase("normal", 40, 50, healthy=True)]
    judgement = judge(phases, [alert(5), alert(35), alert(45), alert(46)])
    assert [len(verdict.false_alarms) for verdict in judgement.healthy] == [1, 0, 2]
    assert len(judgement.false_alarms) == 4


@pytest.mark.parametrize(
    ("at_s", "per_s", "in_time"), [(13.0, 1000, True), (14.0, 30, True), (14.0, 100, False), (19.0, 10, True)]
)
def test_in_time_is_within_3_s_or_150_executions(at_s: float, per_s: float, in_time: bool) -> None:
    assert fault(alert(at_s), tables=[table(per_s)]).in_time is in_time


@pytest.mark.parametrize(("every", "in_time"), [(10, False), (25, True)])
def test_switches_of_profile_are_counted_in_switches(every: int, in_time: bool) -> None:
    verdict = fault(alert(12), name="switching_context", tables=[table(100, switched_every=every)])
    assert verdict.in_time is in_time
    assert verdict.delay_switches == 200 // every


def test_delays_are_counted_on_the_instance_that_executed_most() -> None:
    assert fault(alert(12), tables=[table(10), table(100)]).delay_executions == 200


@pytest.mark.parametrize(
    ("name", "cause", "right"),
    [
        ("cpu_starve", "host_starvation", True),
        ("cpu_starve", "load", False),
        ("input_x1.5", "quantization_range", True),
        ("cotenant_of_mine", "host_starvation", False),
        ("a fault of yours", "load", None),
    ],
)
def test_the_first_cause_is_judged_where_a_right_one_is_known(
    name: str, cause: str, right: bool | None
) -> None:
    verdict = fault(alert(12, cause), alert(13, "unknown"), name=name)
    assert verdict.caught
    assert verdict.cause_right is right


def test_a_cause_that_comes_right_later_was_wrong_when_people_were_told() -> None:
    later = alert(12, "host_starvation", revision=2, updated_at=rfc3339(T0_S + 15))
    assert fault(alert(12, "unknown"), later).cause_right is False


@pytest.mark.parametrize(("group", "right"), [("blocks.2/attn", True), ("blocks.3/attn", False)])
def test_a_slower_build_is_caught_by_what_is_told_of_the_build(group: str, right: bool) -> None:
    other = alert(11)
    told = alert(12, "engine_change", group, kind="engine_regression", severity="info")
    verdict = fault(other, told, name="rebuild_slow")
    assert (verdict.delay_s, verdict.cause_right, verdict.layers_right) == (2.0, True, right)
    assert not fault(other, name="rebuild_slow").caught
    assert false_alarms([other, told]) == []


def test_without_phases_nothing_is_judged_and_everything_is_told() -> None:
    judgement: Judgement = judge([], [alert(5), alert(6, severity="info")])
    assert not judgement.labelled
    assert [found.at_s - T0_S for found in judgement.found] == [5, 6]
