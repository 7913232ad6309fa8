"""Rare spikes over thousands of executions."""

from __future__ import annotations

import numpy as np
import pytest

from layerwatch.detectors.arrays import pack, unpack
from layerwatch.detectors.rare_scan import RareScan
from layerwatch.detectors.scan import ScanResult


def stream(scan: RareScan, rate: float, executions: int, seed: int, start: int = 0) -> list[ScanResult]:
    """Hits at random places, as many as the rate says."""
    places = np.random.default_rng(seed).choice(executions, int(rate * executions), replace=False)
    hits = np.isin(np.arange(executions + 64), places)
    found = []
    for first in range(0, executions, 64):
        result = scan.push((start + first + np.arange(64)) / 200, hits[first : first + 64])
        if result:
            found.append(result)
        else:
            scan.learn()
    return found


@pytest.mark.parametrize("seed", range(10))
def test_three_in_a_thousand_are_found_within_a_few_thousand(seed: int) -> None:
    scan = RareScan()
    assert stream(scan, 0.0, 5_000, seed) == []
    found = stream(scan, 0.003, 5_000, seed, 5_000)
    assert found
    assert found[0].p_value < 1e-5
    assert found[0].onset_s >= 25.0


@pytest.mark.parametrize("rate", [1e-5, 1e-4, 1e-3])
def test_what_was_always_so_is_no_news(rate: float) -> None:
    scan = RareScan()
    stream(scan, rate, 100_000, 1)
    scan.clear()
    found = [bool(stream(scan, rate, 20_000, seed, 10**6 + seed * 20_000)) for seed in range(5)]
    assert sum(found) <= 1


def test_a_few_at_once_are_found_at_once() -> None:
    scan = RareScan()
    stream(scan, 0.0, 1_000, 0)
    result = scan.push(5.0 + np.arange(64) / 200, np.arange(64) % 8 == 0)
    assert result is not None
    assert result.hits == 8


def test_what_is_restored_counts_on() -> None:
    scan = RareScan()
    stream(scan, 0.001, 3_000, 4)
    back = RareScan.restore(unpack(pack(scan.state())))
    assert back.rate == scan.rate
    assert stream(back, 0.005, 1_000, 5, 3_000) == stream(scan, 0.005, 1_000, 5, 3_000)
