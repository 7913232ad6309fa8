"""Injection changes what it says and nothing else, and power is counted as it should be."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
import pytest
from detection import models, recording

from layerwatch.evaluation.conditions import Condition
from layerwatch.evaluation.power.faults import BEFORE, DURATIONS_MS, FAULTS, Fault, Injected, block_of
from layerwatch.evaluation.power.healthy import Healthy, healthy_of
from layerwatch.evaluation.power.study import Trial, power_of
from layerwatch.evaluation.power.summary import by_class, by_recording
from layerwatch.recording.cut import Run
from layerwatch.schemas.engines import Layer, ProfileLayers
from layerwatch.schemas.errors import ConfigError

NAME = "resnet50-h200"
BY_NAME = {fault.name: fault for fault in FAULTS}


@pytest.fixture(scope="module")
def healthy() -> Healthy:
    return healthy_of(recording(NAME))


def injected(healthy: Healthy, name: str, seed: int = 0, executions: int = 600) -> tuple[Run, Run, Injected]:
    """The run before and after the fault, and what was injected."""
    fault = BY_NAME[name]
    at = np.arange(fault.before + executions) % len(healthy)
    waits_s = None if fault.every_s is None else np.full(len(at), 36.0)
    plain, changed = healthy.run(at, 0.0, waits_s), healthy.run(at, 0.0, waits_s)
    what = fault.inject(healthy, at, changed, np.random.default_rng(seed))
    assert what is not None
    return plain, changed, what


def test_only_healthy_executions_away_from_faults_are_used(healthy: Healthy) -> None:
    made = recording(NAME)
    times_s = np.concatenate([np.frombuffer(batch.times_s) for batch in made])
    labelled = np.zeros(len(times_s), bool)
    for phase in made.phases:
        if phase.healthy:
            labelled |= (times_s >= phase.start_s) & (times_s <= phase.end_s)
    assert 0.5 * labelled.sum() < len(healthy) < labelled.sum()
    assert healthy.wait_s.max() < 1.0
    assert np.quantile(healthy.end_to_end_ms, 0.99) < 10  # 25 and more while memory bandwidth is taken


def test_a_recording_without_labels_is_healthy_as_a_whole() -> None:
    made = replace(recording("resnet50-int8-h200"), phases=[])
    assert len(healthy_of(made)) == made.executions


def test_too_little_to_inject_into_is_refused() -> None:
    made = recording(NAME)
    with pytest.raises(ConfigError, match="record longer"):
        healthy_of(replace(made, batches=made.batches[:5]))


@pytest.mark.parametrize("seed", range(6))
def test_one_layer_is_a_third_slower_and_end_to_end_feels_it(healthy: Healthy, seed: int) -> None:
    plain, changed, what = injected(healthy, "one layer x1.3", seed)
    before, after = plain.layers[0].times_ms, changed.layers[0].times_ms
    rows, columns = np.nonzero(after != before)
    (column,) = np.unique(columns)
    assert rows.min() >= BEFORE
    assert after[rows, column] == pytest.approx(1.3 * before[rows, column], rel=1e-5)
    assert healthy.manifest.profiles[0].layers[column].name == what.layer
    low, high = DURATIONS_MS[what.duration]
    assert low <= np.median(before[rows, column]) < high
    excess_ms = changed.end_to_end_ms - plain.end_to_end_ms
    assert excess_ms[rows] == pytest.approx((after - before)[rows, column], abs=1e-5)
    assert np.count_nonzero(excess_ms) == len(rows)


def test_a_recording_without_long_layers_or_blocks_has_no_place_for_the_fault(healthy: Healthy) -> None:
    short = {profile: times_ms * np.float32(1e-3) for profile, times_ms in healthy.layer_ms.items()}
    nameless = [ProfileLayers(p.profile, [Layer("x") for _ in p.layers]) for p in healthy.manifest.profiles]
    bare = replace(
        healthy, layer_ms=short, manifest=msgspec.structs.replace(healthy.manifest, profiles=nameless)
    )
    at, rng = np.arange(900), np.random.default_rng(0)
    for name in ("one layer x1.3", "a block x1.15"):
        assert BY_NAME[name].inject(bare, at, bare.run(at, 0.0), rng) is None


def test_a_block_is_slower_in_all_its_layers_and_no_other(healthy: Healthy) -> None:
    plain, changed, what = injected(healthy, "a block x1.15")
    moved = (changed.layers[0].times_ms != plain.layers[0].times_ms).any(axis=0)
    blocks = {
        block_of(layer.group)
        for layer, hit in zip(healthy.manifest.profiles[0].layers, moved, strict=True)
        if hit
    }
    assert blocks == {what.block}


def test_places_and_times_vary_with_the_seed(healthy: Healthy) -> None:
    layers = {injected(healthy, "one layer x1.3", seed)[2].layer for seed in range(8)}
    assert len(layers) >= 3


def test_spikes_are_rare_and_between_the_layers(healthy: Healthy) -> None:
    plain, changed, _ = injected(healthy, "spikes: 0.3 % at 8x", executions=2000)
    ratio = changed.end_to_end_ms / plain.end_to_end_ms
    assert 1 <= np.count_nonzero(ratio > 1) <= 20
    assert set(np.round(ratio, 3)) == {1.0, 8.0}
    assert np.array_equal(changed.layers[0].times_ms, plain.layers[0].times_ms)


def test_creep_grows_with_the_hours(healthy: Healthy) -> None:
    plain, changed, _ = injected(healthy, "creep: 5 % an hour for 3 h", executions=300)
    ratio = np.median(changed.layers[0].times_ms / np.maximum(plain.layers[0].times_ms, 1e-9), axis=1)
    before = BY_NAME["creep: 5 % an hour for 3 h"].before
    assert ratio[:before] == pytest.approx(1.0, abs=1e-6)
    assert ratio[-1] == pytest.approx(1.0 + 0.05 * 299 * 36 / 3600, abs=1e-3)


def test_a_shift_of_the_mix_changes_no_execution(healthy: Healthy) -> None:
    fault = BY_NAME["shift of the shape mix"]
    assert fault.choose is not None
    at = fault.choose(healthy, np.arange(1200), np.random.default_rng(1))
    few, usual = np.unique(healthy.shape[at[BEFORE:]], axis=0), np.unique(healthy.shape, axis=0)
    assert len(few) < len(usual)
    assert at[BEFORE:].min() >= healthy.half


def test_power_counts_what_is_found_when_and_whether_the_same_seed_gives_the_same() -> None:
    fault = Fault("all layers x1.3", 400, BY_NAME["all layers x1.3"].inject)
    quiet = BY_NAME["nothing"]
    done: list[int] = []
    made = recording(NAME)
    trials = power_of(made, Condition(), 3, models(), done.append, [fault, quiet])
    assert done == [1, 2, 3, 4, 5, 6]
    assert trials == power_of(made, Condition(), 3, models(), done.append, [fault, quiet])
    loud, silent = by_recording(trials)
    assert (loud.key, loud.noticed, loud.warned) == (("all layers x1.3", NAME), 3, 3)
    assert loud.delay_executions is not None
    assert 0 < loud.delay_executions <= 400
    assert (silent.harmless, silent.warned, silent.enough) == (True, 0, True)


def test_enough_is_95_percent_found_and_rightly_placed() -> None:
    def trial(seed: int, detected: bool, right: bool | None) -> Trial:
        what = Injected(layer="a")
        return Trial(
            "r", "one layer x1.3", seed, what, detected, False, 5 if detected else None, 1.0, right, False
        )

    good = [trial(i, True, True) for i in range(19)]
    assert by_class([*good, trial(19, False, None)])[0].enough
    assert not by_class([*good, trial(19, False, None), trial(20, False, None)])[0].enough
    assert not by_class([*good[:10], trial(19, True, False)])[0].enough
