"""What a pattern is called, where no GPU counter helps and where one does."""

from __future__ import annotations

import numpy as np
import pytest

from layerwatch.detectors import execution_watch as e
from layerwatch.detectors import layer_watch as s
from layerwatch.detectors.arrays import F64
from layerwatch.detectors.causes import causes_of, is_sure, pattern_of
from layerwatch.detectors.gpu import GpuView
from layerwatch.schemas.alerts import Cause
from layerwatch.schemas.profiles import COUNTER_COLUMNS


def executions(n: int = 60, host: float = 0.0, share: float = 1.0, switched: bool = False) -> F64:
    """`share` of them with a host part of `host` log units."""
    rows = np.zeros((n, 8))
    slow = np.arange(n) < share * n
    rows[slow, e.HOST] = host
    rows[slow, e.SWITCHED] = switched
    return rows


def sampled(
    n: int = 60,
    share: float = 1.0,
    layers: float = 0.0,
    largest: float = 0.0,
    common: float = 0.0,
    total: float = 0.0,
) -> F64:
    """`share` of them with that share of slow `layers`, the `largest` excess, and log-ratios."""
    rows = np.zeros((n, 8))
    slow = np.arange(n) < share * n
    rows[slow, s.SPREAD], rows[slow, s.SLICE] = layers, largest
    rows[slow, s.COMMON], rows[slow, s.TOTAL] = common, total
    rows[slow, s.EXCESS] = np.expm1(total)
    return rows


def first_cause(execution_rows: F64, sampled_rows: F64, *channels: str) -> str:
    pattern = pattern_of(execution_rows, sampled_rows, frozenset(channels), 0.7, 0.25, 0.0)
    return causes_of(pattern, None)[0].cause


@pytest.mark.parametrize(
    ("expected", "rows", "layers"),
    [
        ("gpu_contention", executions(), sampled(share=0.5, largest=1.5, total=0.9, layers=0.01)),
        ("gpu_contention", executions(), sampled(share=0.04, largest=0.6, total=0.5, layers=0.01)),
        ("pcie_contention", executions(), sampled(layers=0.4, common=0.4, total=0.45)),
        (
            "memory_bandwidth",
            executions(),
            sampled(share=0.3, layers=0.4, common=0.2, total=3.0, largest=0.5),
        ),
        ("host_starvation", executions(host=1.5, share=0.4), sampled()),
        ("host_starvation", executions(host=1.2), sampled(largest=2.0, total=1.4, layers=0.05)),
        ("interpreter_lock", executions(host=3.0), sampled()),
        ("allocation", executions(host=0.8), sampled()),
        ("host_starvation", executions(host=0.8), sampled(n=4)),
        ("host_starvation", executions(host=0.8, share=0.97), sampled()),
        ("profile_switch", executions(host=2.0, share=0.05, switched=True), sampled()),
    ],
)
def test_a_pattern_has_a_name(expected: str, rows: F64, layers: F64) -> None:
    assert first_cause(rows, layers) == expected


@pytest.mark.parametrize(("slow", "expected"), [(3, "host_starvation"), (8, "interpreter_lock")])
def test_a_lock_is_seen_in_the_newest_executions_however_many_came_before(slow: int, expected: str) -> None:
    rows = executions(n=180)
    rows[-slow:, e.HOST] = 5.0
    assert first_cause(rows, sampled(n=180)) == expected


@pytest.mark.parametrize(
    ("slow", "usual", "expected"),
    [(12, 0, "interpreter_lock"), (12, 1, "host_starvation"), (40, 1, "host_starvation")],
)
def test_a_lock_lets_nobody_through(slow: int, usual: int, expected: str) -> None:
    rows = executions(n=180)
    rows[-slow:, e.HOST] = 3.0
    rows[-slow // 2 : -slow // 2 + usual, e.HOST] = 0.0
    assert first_cause(rows, sampled(n=180)) == expected


def test_a_chance_hit_before_it_hides_no_lock() -> None:
    rows = executions(n=180)
    rows[-12:, e.HOST], rows[-20, e.HOST] = 3.0, 1.0
    assert first_cause(rows, sampled(n=180)) == "interpreter_lock"


@pytest.mark.parametrize(
    ("gpu_pct", "sm_pct", "expected"),
    [(95.0, 0.2, "allocation"), (95.0, 40.0, "gpu_contention"), (2.0, 0.2, "interpreter_lock")],
)
def test_a_gpu_that_is_busy_while_its_sms_idle_manages_memory(
    gpu_pct: float, sm_pct: float, expected: str
) -> None:
    usual, now = np.zeros((2, len(COUNTER_COLUMNS)))
    gpu, sm = map(COUNTER_COLUMNS.index, ("gpu_utilisation_pct", "sm_utilisation_pct"))
    usual[gpu], now[gpu], usual[sm], now[sm] = 5.0, gpu_pct, 4.0, sm_pct
    pattern = pattern_of(executions(host=4.0), sampled(common=3.0, total=4.0), frozenset(), 0.7, 0.25, 0.0)
    assert causes_of(pattern, GpuView(usual, now))[0].cause == expected


@pytest.mark.parametrize(
    ("sm_pct", "somebody_else", "expected"),
    [(64.0, True, "gpu_contention"), (64.0, False, "host_starvation"), (20.0, True, "host_starvation")],
)
def test_others_on_a_busy_gpu_are_known_by_what_it_never_did_before(
    sm_pct: float, somebody_else: bool, expected: str
) -> None:
    usual, now = np.zeros((2, len(COUNTER_COLUMNS)))
    sm = COUNTER_COLUMNS.index("sm_utilisation_pct")
    usual[sm], now[sm] = 49.0, sm_pct
    pattern = pattern_of(
        executions(host=0.9, share=0.3), sampled(n=3), frozenset({"host_tail"}), 0.7, 0.25, 0.0
    )
    assert causes_of(pattern, GpuView(usual, now), somebody_else)[0].cause == expected


@pytest.mark.parametrize(
    ("usual_pct", "sm_pct", "nobody_else", "expected"),
    [
        (0.2, 0.1, True, "host_starvation"),
        (0.2, 0.1, False, "gpu_contention"),
        (0.2, 0.2, True, "gpu_contention"),
        (0.2, 3.0, True, "gpu_contention"),
        (6.0, 3.0, True, "host_starvation"),
        (20.0, 5.0, True, "gpu_contention"),  # a neighbour that comes and goes does not show beside it
    ],
)
def test_layers_are_lengthened_by_a_host_too_that_leaves_the_gpu_idle(
    usual_pct: float, sm_pct: float, nobody_else: bool, expected: str
) -> None:
    usual, now = np.zeros((2, len(COUNTER_COLUMNS)))
    sm = COUNTER_COLUMNS.index("sm_utilisation_pct")
    usual[sm], now[sm] = usual_pct, sm_pct
    pattern = pattern_of(
        executions(host=0.3),
        sampled(layers=0.2, common=0.2, total=0.5, largest=0.6),
        frozenset({"layers_sum"}),
        0.7,
        0.25,
        0.0,
    )
    assert causes_of(pattern, GpuView(usual, now), nobody_else=nobody_else)[0].cause == expected


def test_a_cause_says_what_a_person_can_check() -> None:
    pattern = pattern_of(
        executions(), sampled(layers=0.4, common=0.4, total=0.45), frozenset(), 0.7, 0.25, 0.0
    )
    cause = causes_of(pattern, None)[0]
    assert cause.evidence.startswith("40% of the layers slower at once")
    assert cause.confidence <= 0.5


@pytest.mark.parametrize(
    ("cause", "confidence", "sure"),
    [
        ("gpu_contention", 0.9, True),
        ("gpu_contention", 0.6, False),  # by the pattern alone
        ("profile_switch", 0.9, True),  # the runtime says so
        ("host_starvation", 0.8, False),  # a neighbour may show yet
    ],
)
def test_a_cause_that_is_sure_waits_for_no_counters(cause: str, confidence: float, sure: bool) -> None:
    assert is_sure(Cause(cause, confidence, "")) is sure


@pytest.mark.parametrize(
    ("counter", "pct", "evidence"),
    [
        ("dram_bandwidth_pct", 9.0, "SM utilisation 0 -> 0 %, DRAM bandwidth 1 -> 9 %, one layer"),
        (
            "dram_bandwidth_pct",
            1.0,
            "SM utilisation 0 -> 0 %, more now and then than this instance ever did, one layer",
        ),
    ],
)
def test_a_neighbour_that_hardly_shows_in_the_sms_is_told_by_what_it_shows_in(
    counter: str, pct: float, evidence: str
) -> None:
    usual, now = np.zeros((2, len(COUNTER_COLUMNS)))
    usual[COUNTER_COLUMNS.index("sm_utilisation_pct")], now[COUNTER_COLUMNS.index("sm_utilisation_pct")] = (
        0.2,
        0.4,
    )
    usual[COUNTER_COLUMNS.index(counter)], now[COUNTER_COLUMNS.index(counter)] = 1.0, pct
    pattern = pattern_of(executions(), sampled(layers=0.2, largest=0.6), frozenset(), 0.7, 0.25, 0.0)
    cause = causes_of(pattern, GpuView(usual, now), somebody_else=True)[0]
    assert cause.cause == "gpu_contention"
    assert cause.evidence.startswith(evidence)
