"""Signals to load: whatever is left out, repeated or restarted on the way, the sums are the same."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from service_signals import T0_S, signal
from stack import RESNET, load

from layerwatch.detectors.instance_stage import InstanceStage
from layerwatch.detectors.load.block import BLOCK_S
from layerwatch.detectors.load.planner import Goal
from layerwatch.detectors.load.stage import LoadStage
from layerwatch.detectors.models import Models
from layerwatch.schemas.load import Load
from layerwatch.schemas.signals import Signal
from layerwatch.schemas.times import unix_s

_GOAL = Goal(0.05, 60.0)


def _signal(instance: str, second: int, **changes: Any) -> Signal:
    """100 executions of 2 ms a second."""
    fields: dict[str, Any] = {"executed": 100 * second, "busy_s": 0.2 * second, "busy_s2": 0.0004 * second}
    return signal(instance, second, **(fields | changes))


def _fold(stage: LoadStage, signals: Iterable[Signal]) -> list[Load]:
    return [told for one in signals for told in stage.update(one)]


def _both(seconds: int) -> list[Signal]:
    return [_signal(name, second) for second in range(1, seconds) for name in ("a", "b")]


def _new() -> LoadStage:
    return LoadStage("s", _GOAL, None)


def test_two_instances_are_one_load() -> None:
    loads = _fold(_new(), _both(120))
    assert [unix_s(load.at) % BLOCK_S for load in loads] == [0.0] * len(loads)
    for told in loads[1:]:
        assert (told.instances, told.rate, told.utilisation, told.service_ms) == (2, 200.0, 0.2, 2.0)
    assert loads[-1].replicas == 2, "as many as there were, until the window of scale-in has passed"


def test_signals_that_are_left_out_cost_nothing() -> None:
    loads = _fold(_new(), [one for one in _both(120) if one.sequence % 5 == 0])
    assert {told.rate for told in loads[1:]} == {200.0}


@given(st.lists(st.integers(0, 200), max_size=40), st.integers(0, 238))
def test_repeats_and_a_restart_change_nothing(repeated: list[int], cut: int) -> None:
    signals = _both(120)
    whole = _fold(_new(), signals)
    first = _new()
    out = _fold(first, signals[:cut])
    second = LoadStage.restore("s", _GOAL, None, first.dump_open(), first.dump_planner())
    out += _fold(second, [signals[i] for i in repeated if i < cut] + signals[cut:])
    assert out == whole


def test_a_planner_that_was_written_later_than_the_rest_sees_no_block_twice() -> None:
    signals = _both(120)
    whole = _fold(_new(), signals)
    first = _new()
    _fold(first, signals[:40])
    opened = first.dump_open()
    _fold(first, signals[40:140])
    second = LoadStage.restore("s", _GOAL, None, opened, first.dump_planner())
    assert _fold(second, signals[40:]) == [told for told in whole if unix_s(told.at) > first.planned_s]


def test_a_new_process_counts_from_its_boot_and_a_stranger_from_when_it_is_heard_first() -> None:
    stage = _new()
    _fold(stage, [_signal("a", second) for second in range(1000, 1021)])
    rebooted = [
        _signal("a", second, boot_ms=2, executed=100 * (second - 1020), busy_s=0.2 * (second - 1020))
        for second in range(1021, 1080)
    ]
    assert {told.rate for told in _fold(stage, rebooted)} == {100.0}


def test_no_data_is_not_zero() -> None:
    stage = _new()
    _fold(stage, _both(60))
    after = _fold(stage, [_signal("a", 60 + 120)])
    times = [unix_s(told.at) - T0_S for told in after]
    assert max(times) < 60 + 30, "the blocks in which nobody was heard are not there"
    assert _fold(stage, [_signal("a", 100_000 + second) for second in range(40)])[0].instances == 1


def test_instances_that_leave_are_no_replicas() -> None:
    stage = _new()
    signals = [
        _signal(n, s, state="leaving" if n == "b" and s > 60 else "serving")
        for s in range(1, 120)
        for n in "ab"
    ]
    assert [told.instances for told in _fold(stage, signals)][-1] == 1


def test_an_instances_sums_are_those_of_its_executions_and_survive_a_restart() -> None:
    recording = load(RESNET, "served", "served-0")
    manifests = {manifest.engine: manifest for manifest in recording.manifests}
    stage, executed = InstanceStage(manifests, Models()), 0
    last = None
    for number, batch in enumerate(recording):
        if number == 20:
            break
        if number == 10:
            stage = InstanceStage.restore("served-0", stage.dump(all=True), manifests, Models())
        last = stage.update(msgspec.structs.replace(batch, dropped=7))
        executed += len(batch.times_s) // 8
    assert last is not None
    assert last.executed == executed + 7, "those that were lost were executed too"
    assert 0 < last.busy_s < 20
