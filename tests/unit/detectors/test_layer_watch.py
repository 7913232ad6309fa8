"""What the GPU's counters say of others decides how much is asked of the layers."""

from __future__ import annotations

import numpy as np
import pytest

from layerwatch.detectors.arrays import F64
from layerwatch.detectors.layer_watch import COMMON, JUDGED, SLICE, SPREAD, TIME, LayerWatch


def rows(executions: int, start_s: float, **columns: F64 | float) -> F64:
    made = np.zeros((executions, 8))
    made[:, TIME] = start_s + 0.01 * np.arange(executions)
    made[:, JUDGED] = 1
    for name, values in columns.items():
        made[:, {"slices": SLICE, "common": COMMON, "spread": SPREAD}[name]] = values
    return made


@pytest.fixture
def watch() -> LayerWatch:
    """Has learnt from 300 executions with nothing wrong."""
    made = LayerWatch()
    for start in range(0, 300, 20):
        healthy = rows(20, 0.01 * start, slices=0.02, spread=0.01)
        made.step(healthy, 0.0, True)
        made.learn(healthy, True)
    return made


@pytest.mark.parametrize(("sliced", "nobody_else", "found"), [(3, False, 1), (3, True, 0), (12, True, 1)])
def test_slices_are_asked_for_twice_where_nobody_else_is_on_the_gpu(
    watch: LayerWatch, sliced: int, nobody_else: bool, found: int
) -> None:
    slices = np.where(np.arange(40) >= 40 - sliced, 0.5, 0.02)
    findings = watch.step(rows(40, 5.0, slices=slices), 0.0, True, nobody_else)
    assert [finding.channel for finding in findings] == ["layer_slice"] * found


@pytest.mark.parametrize(
    ("spread", "somebody_else", "found"), [(0.12, True, 1), (0.12, False, 0), (0.04, True, 0)]
)
def test_many_slower_layers_are_trouble_while_the_counters_show_somebody_else(
    watch: LayerWatch, spread: float, somebody_else: bool, found: int
) -> None:
    findings = watch.step(rows(20, 5.0, spread=spread), 0.0, True, somebody_else=somebody_else)
    assert [finding.channel for finding in findings] == ["layers_spread"] * found


@pytest.mark.parametrize(
    ("channel", "columns", "lingers"),
    [
        ("layer_slice", {"slices": 0.2}, True),  # a quarter is one
        ("layer_slice", {"slices": 0.15}, False),
        ("layers_common", {"slices": 0.2}, False),  # found by another channel
        ("layers_spread", {"spread": 0.09}, True),
        ("layers_spread", {"spread": 0.07}, False),
    ],
)
def test_what_is_open_goes_on_until_it_is_well_below_its_threshold(
    watch: LayerWatch, channel: str, columns: dict[str, float], lingers: bool
) -> None:
    latest = rows(20, 5.0, **columns)
    assert watch.step(latest, 0.0, True, somebody_else=True) == []
    assert watch.lingers({channel}, latest, 0.0, True, somebody_else=True) is lingers


@pytest.mark.parametrize(("before", "lingers"), [(0, False), (1, True)])
def test_one_slice_alone_keeps_nothing_open(watch: LayerWatch, before: int, lingers: bool) -> None:
    watch.step(rows(40, 5.0, slices=np.where(np.arange(40) < before, 0.2, 0.02)), 0.0, True)
    latest = rows(20, 5.4, slices=np.where(np.arange(20) == 19, 0.2, 0.02))
    watch.step(latest, 0.0, True)
    assert watch.lingers({"layer_slice"}, latest, 0.0, True) is lingers


def test_many_slower_layers_linger_only_while_somebody_else_is_there(watch: LayerWatch) -> None:
    latest = rows(20, 5.0, spread=0.09)
    watch.step(latest, 0.0, True)
    assert not watch.lingers({"layers_spread"}, latest, 0.0, True)


@pytest.mark.parametrize(
    ("common", "sampled_all", "found"), [(0.16, True, 1), (0.19, False, 0), (0.21, False, 1)]
)
def test_more_is_asked_of_the_median_of_a_few(
    watch: LayerWatch, common: float, sampled_all: bool, found: int
) -> None:
    watch.step(rows(20, 5.0, common=common), 0.0, sampled_all)
    findings = watch.step(rows(20, 6.1, common=common), 0.0, sampled_all)
    assert [finding.channel for finding in findings] == ["layers_common"] * found


@pytest.mark.parametrize(
    ("common", "lasted_s", "found"), [(0.2, 0.5, 0), (0.2, 1.2, 1), (0.4, 0.1, 1)]
)  # 0.4: more than twice the threshold
def test_all_layers_slower_by_a_little_must_last(
    watch: LayerWatch, common: float, lasted_s: float, found: int
) -> None:
    findings = watch.step(rows(20, 5.0, common=common), 0.0, True)
    assert bool(findings) is (common > 0.3)
    assert watch.doubtful
    findings = watch.step(rows(20, 5.0 + lasted_s, common=common), 0.0, True)
    assert [finding.channel for finding in findings] == ["layers_common"] * found


def test_a_slowdown_that_went_away_begins_anew(watch: LayerWatch) -> None:
    watch.step(rows(20, 5.0, common=0.2), 0.0, True)
    watch.step(rows(20, 5.5, common=0.0), 0.0, True)
    assert not watch.doubtful
    assert watch.step(rows(20, 6.1, common=0.2), 0.0, True) == []
    assert LayerWatch.restore(watch.state()).doubtful


def test_a_noisy_engine_is_given_more_than_a_quiet_one(watch: LayerWatch) -> None:
    noisy = LayerWatch()
    rng = np.random.default_rng(0)
    for start in range(0, 1500, 20):
        healthy = rows(20, 0.01 * start, slices=np.abs(rng.normal(0, 0.15, 20)))
        noisy.step(healthy, 0.0, True)
        noisy.learn(healthy, True)
    slices = np.where(np.arange(40) >= 34, 0.6, 0.02)
    assert watch.step(rows(40, 20.0, slices=slices), 0.0, True) != []
    assert noisy.step(rows(40, 20.0, slices=slices), 0.0, True) == []
