from __future__ import annotations

import numpy as np

from layerwatch.detectors.arrays import F64
from layerwatch.detectors.gpu import GpuCounters
from layerwatch.schemas.profiles import COUNTER_COLUMNS

PCIE = COUNTER_COLUMNS.index("pcie_rx_mib_s")


def readings(start_s: float, *pcie_mib_s: float) -> F64:
    made = np.ones((len(pcie_mib_s), len(COUNTER_COLUMNS)))
    made[:, 0] = start_s + 0.1 * np.arange(len(pcie_mib_s))
    made[:, PCIE] = pcie_mib_s
    return made


def usual() -> GpuCounters:
    counters = GpuCounters()
    counters.push(readings(0.0, *20 * [500.0]))
    counters.learn()
    return counters


def test_an_episode_shows_its_own_time_and_not_what_came_before() -> None:
    counters = usual()
    counters.push(readings(10.0, 500, 500, 500, 500, 56_000, 56_000, 56_000, 56_000))
    view = counters.view(10.3, 10.8)
    assert view is not None
    assert (view.usually("pcie_rx_mib_s"), view.at("pcie_rx_mib_s")) == (500.0, 56_000.0)


def test_a_pause_between_onset_and_trouble_hides_nothing() -> None:
    """The first slow execution came before a pause, in which the neighbour began."""
    counters = usual()
    counters.push(readings(10.0, 900, *25 * [0.0], 9, 56, 12, 53_000, 55_800))
    view = counters.view(10.0, 13.2)
    assert view is not None
    assert view.at("pcie_rx_mib_s") == 53_000


def test_a_clock_that_is_lowered_now_and_then_is_low() -> None:
    counters = usual()
    throttled = readings(10.0, *6 * [500.0])
    throttled[:, COUNTER_COLUMNS.index("sm_clock_mhz")] = [1980, 1300, 1980, 1300, 1300, 1980]
    counters.push(throttled)
    view = counters.view(9.9, 10.6)
    assert view is not None
    assert view.at("sm_clock_mhz") == 1300
