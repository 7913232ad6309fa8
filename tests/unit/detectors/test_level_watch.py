"""Steps of layers, of blocks of a model and of all layers, in real healthy executions that are made slower."""

from __future__ import annotations

from functools import lru_cache

import msgspec
import numpy as np
import pytest
from detection import recording, stage_for

from layerwatch.detectors.arrays import F64
from layerwatch.detectors.instance_stage import InstanceStage
from layerwatch.schemas.profiles import LayerBlock, ProfileBatch
from layerwatch.schemas.signals import Episode

NAME = "resnet50-h200"
FROM = 34  # message, of about 47 healthy ones at the beginning


@lru_cache(maxsize=1)
def healthy() -> list[ProfileBatch]:
    made = recording(NAME)
    return [batch for batch in made.batches if batch.window_end_s <= made.phases[0].end_s]


@lru_cache(maxsize=1)
def usual_ms() -> F64:
    """Median of each layer."""
    times = [
        np.frombuffer(block.times_ms, "<f4").reshape(-1, block.layers)
        for b in healthy()
        for block in b.layers
    ]
    return np.asarray(np.median(np.concatenate(times), axis=0), np.float64)


def groups() -> list[str]:
    return [layer.group.split("/")[0] for layer in recording(NAME).manifests[0].profiles[0].layers]


def slower(batch: ProfileBatch, factor: F64, least: int = 0, most: int = 32) -> ProfileBatch:
    """Each layer's time times its factor, and the end-to-end times by as much longer, of batches of `least` to `most`."""
    (block,) = batch.layers
    size = np.array([shape["input"][0] for shape in batch.shapes])[np.frombuffer(batch.shape_index, "<u2")]
    size = size[np.frombuffer(block.rows, "<u4"), None]
    factor = np.where((size >= least) & (size <= most), factor, 1.0)
    times_ms = np.frombuffer(block.times_ms, "<f4").reshape(-1, block.layers)
    end_to_end_ms = np.frombuffer(batch.end_to_end_ms, "<f4").copy()
    end_to_end_ms[np.frombuffer(block.rows, "<u4")] += (times_ms * (factor - 1)).sum(1)
    return msgspec.structs.replace(
        batch,
        layers=[
            LayerBlock(block.profile, block.layers, block.rows, (times_ms * factor).astype("<f4").tobytes())
        ],
        end_to_end_ms=end_to_end_ms.astype("<f4").tobytes(),
    )


def episodes(factor: F64, until: int | None = None, stage: InstanceStage | None = None) -> list[Episode]:
    """All that is told of the healthy messages, slower from FROM to before `until`."""
    stage = stage or stage_for(recording(NAME))
    told = []
    for index, batch in enumerate(healthy()):
        made = slower(batch, factor) if FROM <= index < (until or len(healthy())) else batch
        signal = stage.update(made)
        told += signal.episodes if signal else []
    return told


def factors(layers: list[int], by: float) -> F64:
    factor = np.ones(len(usual_ms()))
    factor[layers] = by
    return factor


def test_healthy_executions_show_no_step() -> None:
    assert episodes(factors([], 1.0)) == []


@pytest.mark.parametrize("seed", range(6))
def test_a_layer_that_takes_a_third_longer_is_named(seed: int) -> None:
    layer = int(np.random.default_rng(seed).choice(np.flatnonzero(usual_ms() > 0.010)))
    told = episodes(factors([layer], 1.3))
    assert told, layer
    assert (told[0].kind, told[0].severity) == ("layer_latency", "info")
    assert told[0].layers[0].index == layer
    assert told[0].layers[0].ratio == pytest.approx(1.3, abs=0.08)
    assert told[0].causes[0].evidence.endswith("the other layers as usual")


@pytest.mark.parametrize("group", ["layer1.2", "layer3.4", "layer4.1"])
def test_a_block_that_takes_a_seventh_longer_is_named(group: str) -> None:
    members = [index for index, name in enumerate(groups()) if name == group]
    told = episodes(factors(members, 1.15))
    assert told
    assert {layer.group.split("/")[0] for layer in told[0].layers} == {group}
    assert told[0].summary.startswith(f"{group} takes 1.1")


@pytest.mark.parametrize(("by", "severity"), [(1.1, "info"), (1.3, "warning")])
def test_all_layers_longer_is_told_and_from_a_sixth_on_a_warning(by: float, severity: str) -> None:
    told = episodes(np.full(len(usual_ms()), by))
    assert {episode.severity for episode in told} == {severity}
    if severity == "warning":
        return
    assert told[0].summary.startswith(("all layers take 1.09x their", "all layers take 1.10x their"))


def test_a_step_that_requests_feel_is_a_warning() -> None:
    layer = int(np.argmax(usual_ms()))
    told = episodes(factors([layer], 3.0))
    assert "warning" in {episode.severity for episode in told}
    assert told[-1].layers[0].index == layer


def test_a_notice_closes_when_the_step_has_gone() -> None:
    layer = int(np.argsort(usual_ms())[-3])
    told = episodes(factors([layer], 1.3), until=FROM + 8)
    assert len({episode.id for episode in told}) == 1
    assert told[-1].closed_s is not None
    assert all(episode.closed_s is None for episode in told[:-1])


def test_a_restart_keeps_a_notice_open() -> None:
    factor = factors([int(np.argsort(usual_ms())[-3])], 1.3)
    made = recording(NAME)
    stage, ids = stage_for(made), []
    for index, batch in enumerate(healthy()):
        if index == FROM + 4:
            manifests = {manifest.engine: manifest for manifest in made.manifests}
            stage = InstanceStage.restore(
                batch.instance, stage.dump(all=True), manifests, stage._scorer.models
            )
        signal = stage.update(slower(batch, factor) if index >= FROM else batch)
        ids += [episode.id for episode in signal.episodes] if signal else []
    assert len(set(ids)) == 1
    assert len(ids) >= len(healthy()) - FROM - 6


def test_a_layer_that_takes_a_third_longer_on_large_inputs_alone_is_named_with_them() -> None:
    layer = int(np.argsort(usual_ms())[-3])
    stage, told = stage_for(recording(NAME)), []
    for index, batch in enumerate(healthy()):
        made = slower(batch, factors([layer], 1.3), least=8) if index >= FROM else batch
        signal = stage.update(made)
        told += signal.episodes if signal else []
    assert told
    assert told[0].layers[0].index == layer
    assert " on the larger half of inputs, " in told[0].summary


def test_a_step_is_not_learnt_from_while_it_is_new() -> None:
    layer = int(np.argsort(usual_ms())[-3])
    told = episodes(factors([layer], 1.3))
    assert told[-1].layers[0].ratio == pytest.approx(told[1].layers[0].ratio, abs=0.04)


@pytest.mark.parametrize(("messages", "severities"), [(4, set()), (10, {"warning"})])
def test_all_layers_longer_on_small_inputs_is_a_warning_once_it_lasts(
    messages: int, severities: set[str]
) -> None:
    stage, told = stage_for(recording(NAME)), []
    for index, batch in enumerate(healthy()):
        felt = FROM <= index < FROM + messages
        signal = stage.update(slower(batch, np.full(len(usual_ms()), 1.32), most=2) if felt else batch)
        told += signal.episodes if signal else []
    assert {episode.severity for episode in told} == severities
