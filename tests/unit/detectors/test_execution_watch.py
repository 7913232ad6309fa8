"""The level of the time between the layers: much higher at once, or somewhat higher for a while."""

from __future__ import annotations

import numpy as np
import pytest

from layerwatch.detectors import execution_watch as e
from layerwatch.detectors.arrays import F64
from layerwatch.detectors.execution_watch import ExecutionWatch
from layerwatch.detectors.finding import Finding


def _rows(host: float, executions: int, start_s: float, every_s: float) -> F64:
    rows = np.zeros((executions, 8))
    rows[:, e.TIME] = start_s + every_s * np.arange(executions)
    rows[:, e.HOST] = rows[:, e.RATIO] = host
    rows[:, e.JUDGED] = 1
    return rows


@pytest.fixture
def watch() -> ExecutionWatch:
    """Has learnt from 400 executions with nothing wrong: thresholds are 0.6, and 0.42 for what lasts."""
    made = ExecutionWatch()
    made.step(_rows(0.0, 400, 0.0, 0.01), True)
    assert made.thresholds is not None
    assert (made.thresholds.level, made.thresholds.raised) == (0.60, 0.42)
    return made


def _with_switches(
    watch: ExecutionWatch, ratio: float, others: float, start_s: float = 10.0
) -> list[Finding]:
    """Ten switches of a profile that cost so much, each before 19 other executions, of which one in ten does so too."""
    found: list[Finding] = []
    for k in range(10):
        rows = _rows(0.0, 20, start_s + 0.2 * k, 0.01)
        rows[0, e.SWITCHED], rows[0, e.HOST], rows[0, e.RATIO] = 1, ratio, ratio
        rows[5:7, e.RATIO] = others
        found += watch.step(rows, True)
    return found


def _found(
    watch: ExecutionWatch, host: float, executions: int, every_s: float = 0.01, start_s: float = 10.0
) -> list[Finding]:
    """What is found in so many executions, in messages of ten."""
    found: list[Finding] = []
    for first in range(0, executions, 10):
        found += watch.step(_rows(host, 10, start_s + every_s * first, every_s), True)
    return found


def test_a_level_that_is_much_higher_is_found_at_once(watch: ExecutionWatch) -> None:
    assert "host_level" in {finding.channel for finding in _found(watch, 0.65, 40)}


@pytest.mark.parametrize(
    ("host", "executions", "every_s", "found"),
    [
        (0.5, 240, 0.01, True),
        (0.5, 140, 0.01, False),  # too short
        (0.5, 400, 0.001, False),  # enough executions, in less than half a second
        (0.5, 140, 0.1, False),  # long enough, and too few
        (0.4, 1000, 0.01, False),  # as healthy ones do
    ],
)
def test_one_that_is_somewhat_higher_is_found_when_it_has_lasted(
    watch: ExecutionWatch, host: float, executions: int, every_s: float, found: bool
) -> None:
    findings = _found(watch, host, executions, every_s)
    assert {finding.channel for finding in findings} == ({"host_level"} if found else set())
    if found:
        assert 10.0 <= findings[0].onset_s < 10.5


def test_nothing_is_learnt_of_it_until_that_is_known(watch: ExecutionWatch) -> None:
    _found(watch, 0.0, 50, start_s=8.0)
    assert not watch.doubtful
    _found(watch, 0.5, 60)
    assert watch.doubtful
    assert ExecutionWatch.restore(watch.state()).doubtful
    _found(watch, 0.0, 60, start_s=11.0)
    assert not watch.doubtful


@pytest.mark.parametrize(
    ("host", "sampled_all", "lingers"), [(0.38, True, True), (0.30, True, False), (0.38, False, False)]
)
def test_what_is_open_goes_on_until_it_is_well_below(
    watch: ExecutionWatch, host: float, sampled_all: bool, lingers: bool
) -> None:
    _found(watch, host, 100)
    assert watch.lingers({"host_level"}, sampled_all) is lingers
    assert not watch.lingers({"spikes"}, sampled_all)


@pytest.mark.parametrize(("slow", "lingers"), [(0, False), (1, False), (2, True)])
def test_one_execution_alone_keeps_nothing_open(watch: ExecutionWatch, slow: int, lingers: bool) -> None:
    _found(watch, 0.0, 60)
    rows = _rows(0.0, 20, 11.0, 0.01)
    rows[:slow, e.HOST] = 0.55
    watch.step(rows, True)
    assert watch.lingers({"host_tail"}, True) is lingers


@pytest.mark.parametrize(("usual", "slow", "lingers"), [(0, 3, True), (5, 3, False), (5, 15, True)])
def test_executions_that_are_as_slow_with_nothing_wrong_keep_nothing_open(
    usual: int, slow: int, lingers: bool
) -> None:
    """`usual`: of forty, with nothing wrong, on a host that is noisier than thresholds may be."""
    watch = ExecutionWatch()
    healthy = _rows(0.0, 40, 0.0, 0.01)
    healthy[:usual, e.HOST] = healthy[:usual, e.RATIO] = 1.05
    for _ in range(100):
        watch.step(healthy, True)
        watch.learn(healthy)
    watch = ExecutionWatch.restore(watch.state())
    assert watch.thresholds is not None
    latest = _rows(0.0, 40, 11.0, 0.01)
    latest[:slow, e.HOST] = min(watch.thresholds.host - 0.15, 1.05)
    watch.step(latest, True)
    assert watch.lingers({"host_tail"}, True) is lingers


@pytest.mark.parametrize(
    ("host", "somebody_else", "executions", "found"),
    [
        (0.30, True, 400, True),
        (0.30, False, 400, False),  # as healthy ones do
        (0.15, True, 1000, False),
        (0.30, True, 200, False),  # too short
    ],
)
def test_a_level_that_is_raised_by_less_is_believed_beside_a_neighbour(
    watch: ExecutionWatch, host: float, somebody_else: bool, executions: int, found: bool
) -> None:
    _found(watch, 0.0, 200, start_s=5.0)
    findings = []
    for first in range(0, executions, 10):
        rows = _rows(host, 10, 10.0 + 0.01 * first, 0.01)
        findings += watch.step(rows, True, somebody_else)
    assert {finding.channel for finding in findings} == ({"host_level"} if found else set())
    assert watch.lingers({"host_level"}, True) is (somebody_else and host > 0.2)


@pytest.mark.parametrize(
    ("host", "slow", "crowded"),
    [
        (1.0, [95], False),  # one or two among a hundred come with nothing wrong
        (1.0, [40, 95], False),
        (1.0, [20, 40, 95], True),
        (1.5, [95], True),  # far out: the next of rare ones
        (1.5, [10], False),  # none among the newest
    ],
)
def test_slow_executions_keep_open_what_they_are_no_chance_for(
    watch: ExecutionWatch, host: float, slow: list[int], crowded: bool
) -> None:
    rows = _rows(0.0, 100, 10.0, 0.01)
    rows[slow, e.HOST] = rows[slow, e.RATIO] = host
    for first in range(0, 100, 10):
        watch.step(rows[first : first + 10], True)
    assert watch.crowded(rows[90:]) is crowded


def test_a_raised_level_is_believed_less_where_layers_are_unknown(watch: ExecutionWatch) -> None:
    for first in range(0, 300, 10):
        assert watch.step(_rows(0.5, 10, 10.0 + 0.01 * first, 0.01), False) == []


@pytest.mark.parametrize(
    ("ratio", "others", "found"),
    [
        (1.2, 0.0, True),
        (0.4, 0.0, True),
        (0.2, 0.0, False),  # too little to matter
        (0.4, 0.4, False),  # others are as slow
    ],
)
def test_switches_of_a_profile_are_found_by_what_they_cost_beside_others(
    watch: ExecutionWatch, ratio: float, others: float, found: bool
) -> None:
    findings = _with_switches(watch, ratio, others)
    assert ("profile_switch" in {finding.channel for finding in findings}) is found
    assert watch.lingers({"profile_switch"}, True) is found
    _found(watch, 0.0, 200, start_s=13.0)
    assert not watch.lingers({"profile_switch"}, True)


def test_switches_on_new_shapes_say_nothing_unless_they_are_spikes(watch: ExecutionWatch) -> None:
    for k in range(20):
        rows = _rows(0.0, 20, 10.0 + 0.2 * k, 0.01)
        rows[0, e.SWITCHED], rows[0, e.RATIO], rows[0, e.JUDGED] = 1, 0.5, 0
        assert not watch.step(rows, True)


@pytest.mark.parametrize(("ratio", "found"), [(0.5, False), (0.8, True)])
def test_what_switches_have_always_cost_is_usual(ratio: float, found: bool) -> None:
    watch = ExecutionWatch()
    for k in range(2):
        _with_switches(watch, 0.4, 0.0, start_s=2.0 * k)
    assert watch.thresholds is not None
    watch = ExecutionWatch.restore(watch.state())
    findings = _with_switches(watch, ratio, 0.0)
    assert ("profile_switch" in {finding.channel for finding in findings}) is found
