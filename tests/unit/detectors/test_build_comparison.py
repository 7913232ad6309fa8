"""New builds against the ones before: from real rebuilds, and from real executions that are made slower."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from functools import lru_cache

import msgspec
import numpy as np
import pytest
from detection import models, recording
from rebuilds import SECOND, Rebuild, rebuilt
from service_signals import check_revisions

from layerwatch.detectors.instance_stage import InstanceStage
from layerwatch.detectors.pipeline import Pipeline
from layerwatch.recording.thin import thinned
from layerwatch.schemas.alerts import Alert
from layerwatch.schemas.engines import Manifest
from layerwatch.schemas.profiles import ProfileBatch
from layerwatch.schemas.signals import Episode
from layerwatch.schemas.times import unix_s

REAL = "rebuild-h200"
WITHIN = 50  # executions after a switch, in which the new build must be known


def alerts_of(manifests: Iterable[Manifest], batches: Iterable[ProfileBatch]) -> list[Alert]:
    pipeline = Pipeline(models())
    for manifest in manifests:
        pipeline.manifest(manifest)
    told = [alert for batch in batches for alert in pipeline.update(batch)[0]]
    return told + pipeline.finish()[0]


def builds(told: Iterable[Alert]) -> list[Alert]:
    """The last revision of each alert about a build, in the order of their opening."""
    last = {alert.id: alert for alert in told if alert.kind == "engine_regression"}
    return sorted(last.values(), key=lambda alert: alert.opened_at)


@lru_cache(maxsize=1)
def real() -> list[Alert]:
    made = recording(REAL)
    return alerts_of(made.manifests, made)


@lru_cache(maxsize=32)
def second(change: Rebuild, name: str = REAL, from_s: float = 10.0, until_s: float = 30.0) -> list[Alert]:
    manifests, batches = rebuilt(recording(name), from_s, change)
    start_s = batches[0].window_start_s
    return alerts_of(manifests, [b for b in batches if b.window_end_s - start_s < until_s])


def one_block(name: str, factor: float) -> Rebuild:
    return Rebuild(factor=lambda block, layer, elements: factor if block == name else 1.0)


def switches_s(batches: Sequence[ProfileBatch]) -> list[tuple[float, float]]:
    """For each change of build: the first execution of the new one, and the fiftieth."""
    found = []
    engine = batches[0].engine
    for i, batch in enumerate(batches):
        if batch.engine != engine and batch.times_s:
            engine = batch.engine
            times_s = np.concatenate([np.frombuffer(b.times_s) for b in batches[i : i + 2]])
            found.append((float(times_s[0]), float(times_s[WITHIN - 1])))
    return found


def test_each_real_build_is_known_within_fifty_executions() -> None:
    switches = switches_s(recording(REAL).batches)
    opened = [unix_s(alert.opened_at) for alert in builds(real())]
    assert len(opened) == len(switches) == 4
    for time_s, (first_s, fiftieth_s) in zip(opened, switches, strict=True):
        assert first_s - 0.001 <= time_s <= fiftieth_s


def test_each_build_is_told_of_once_and_the_alert_ends_with_it() -> None:
    told = builds(real())
    check_revisions(real())
    engines = [batch.engine for batch in recording(REAL)]
    assert [a.engine for a in told] == [
        e for e, before in zip(engines[1:], engines, strict=False) if e != before
    ]
    assert all(alert.status == "resolved" for alert in told)
    for alert, after in itertools.pairwise(told):
        assert alert.closed_at is not None
        assert unix_s(alert.closed_at) <= unix_s(after.opened_at)


def test_a_harmless_rebuild_and_a_return_stay_below_warning() -> None:
    assert {alert.severity for alert in real() if alert.kind == "engine_regression"} == {"info"}
    harmless, returned, _, again = builds(real())
    assert harmless.layers == returned.layers == again.layers == []
    assert "new build" in harmless.summary
    assert "served before" in returned.summary
    assert "served before" in again.summary


def test_the_slow_rebuild_names_its_block_and_the_lengths_that_it_hurts() -> None:
    slow = builds(real())[2]
    assert slow.causes[0].cause == "engine_change"
    assert slow.layers[0].group.startswith("blocks.2")
    assert {layer.group.split("/")[0] for layer in slow.layers} == {"blocks.2"}
    assert slow.buckets
    for bucket in slow.buckets:
        batch, length = bucket.shapes["input"]
        assert batch * length > 800
        assert bucket.ratio > 1.15
    assert "blocks.2" in slow.summary
    assert "1024..4095" in slow.summary


@pytest.mark.parametrize(
    ("name", "block"),
    [(REAL, "blocks.0"), (REAL, "blocks.3"), ("resnet50-h200", "layer3.4"), ("shape-jump-h200", "blocks.1")],
)
def test_a_block_that_takes_1_3_times_as_long_is_a_warning_with_that_block_first(
    name: str, block: str
) -> None:
    alert = builds(second(one_block(block, 1.3), name, 7.0 if name == "resnet50-h200" else 10.0))[0]
    assert alert.severity == "warning"
    assert alert.layers[0].group.startswith(block)
    assert {layer.group.split("/")[0] for layer in alert.layers} == {block}
    assert alert.engine == SECOND
    first = next(
        a
        for a in second(one_block(block, 1.3), name, 7.0 if name == "resnet50-h200" else 10.0)
        if a.severity == "warning" and a.id == alert.id
    )
    assert unix_s(first.updated_at) - unix_s(first.opened_at) < 15


@pytest.mark.parametrize(("name", "block"), [(REAL, "blocks.0"), ("resnet50-h200", "layer3.4")])
def test_a_build_that_was_seen_for_seconds_may_have_drifted_by_a_fifth(name: str, block: str) -> None:
    severity = {
        from_s: builds(second(one_block(block, 1.17), name, from_s, 40.0))[0].severity
        for from_s in (4.0, 8.0, 10.0)
    }
    assert severity == {4.0: "info", 8.0: "info", 10.0: "warning"}


@pytest.mark.parametrize(
    ("change", "action"),
    [(Rebuild(factor=lambda block, layer, elements: 1.6), "failover"), (one_block("blocks.2", 1.3), "none")],
    ids=["felt", "not felt"],
)
def test_a_slower_build_asks_for_the_former_one_once_requests_feel_it(change: Rebuild, action: str) -> None:
    manifests, batches = rebuilt(recording(REAL), 10.0, change)
    pipeline = Pipeline(models())
    for manifest in manifests:
        pipeline.manifest(manifest)
    decisions = [decision for batch in batches for decision in pipeline.update(batch)[1]]
    assert {decision.action for decision in decisions} == {action}
    assert all("2 independent kinds of evidence" in d.reason for d in decisions if action == "none")


def test_every_block_slower_alike_is_a_warning_too() -> None:
    alert = builds(second(Rebuild(factor=lambda block, layer, elements: 1.3)))[0]
    assert alert.severity == "warning"
    assert "every block" in alert.summary


def myelin(names: list[str]) -> list[str]:
    return [f"{name}_0x{i:x}_myl3_{i}" for i, name in enumerate(names)]


def profiles(names: list[str]) -> list[str]:
    return [f"{name} [profile 1]" for name in names]


def tactics(block: str, layer: int, elements: int) -> float:
    """Other tactics: each layer up to a fifth faster or slower."""
    return float(1 + 0.2 * np.sin(2.4 * layer))


@pytest.mark.parametrize("name", [REAL, "resnet50-int8-h200", "shape-jump-h200"])
@pytest.mark.parametrize(
    "change",
    [
        Rebuild(),
        Rebuild(names=myelin, fused=(20, 40, 61)),
        Rebuild(names=profiles, fused=(35, 37, 90)),
        Rebuild(factor=tactics),
    ],
    ids=["nothing", "myelin", "profiles", "tactics"],
)
def test_what_is_harmless_stays_below_warning(name: str, change: Rebuild) -> None:
    if name == "shape-jump-h200" and change.fused:
        pytest.skip("its two profiles have their layers at other places")
    told = builds(second(change, name, 4.0 if name == "resnet50-int8-h200" else 10.0))
    assert [alert.severity for alert in told] == ["info"]


def test_lengths_that_a_build_hurts_are_told_apart() -> None:
    change = Rebuild(
        factor=lambda block, layer, elements: 1.5 if block == "blocks.1" and elements < 128 else 1.0
    )
    alert = builds(second(change))[0]
    assert alert.layers[0].group.startswith("blocks.1")
    assert all(np.prod(bucket.shapes["input"]) < 128 for bucket in alert.buckets)
    assert "16..127" in alert.summary


def test_a_build_is_compared_where_few_executions_are_sampled() -> None:
    made = thinned(recording(REAL), 0.2)
    manifests, batches = rebuilt(made, 10.0, one_block("blocks.2", 1.5))
    alert = builds(alerts_of(manifests, batches))[0]
    assert alert.severity == "warning"
    assert alert.layers[0].group.startswith("blocks.2")


def test_the_fact_is_told_where_no_layers_are_sampled() -> None:
    made = thinned(recording(REAL), 1e-9)
    told = builds(alerts_of(made.manifests, made))
    assert [alert.severity for alert in told] == ["info"] * 4
    assert all("not yet known on any input" in alert.summary for alert in told)


def test_another_model_is_a_fact_that_is_not_compared() -> None:
    told = builds(second(Rebuild(names=lambda names: [f"other/{i}" for i in range(len(names))])))
    assert [(alert.severity, alert.layers) for alert in told] == [("info", [])]
    assert "no layers that could be matched" in told[0].causes[0].evidence


def essence(stage: InstanceStage, batches: Iterable[ProfileBatch]) -> list[Episode]:
    signals = [stage.update(batch) for batch in batches]
    return [e for s in signals if s is not None for e in s.episodes if e.kind == "engine_regression"]


@pytest.mark.parametrize("after_s", [15.5, 18.0, 29.0, 33.0])
def test_a_restart_in_the_middle_of_a_comparison_changes_nothing(after_s: float) -> None:
    made = recording(REAL)
    known = {manifest.engine: manifest for manifest in made.manifests}
    middle = next(i for i, b in enumerate(made.batches) if b.window_end_s - made.start_s >= after_s)
    stage = InstanceStage(known, models())
    essence(stage, made.batches[:middle])
    back = InstanceStage.restore(made.batches[0].instance, stage.dump(all=True), known, models())
    expected, later = essence(stage, made.batches[middle:]), essence(back, made.batches[middle:])
    assert last(later) == last(expected)


def last(told: Iterable[Episode]) -> dict[str, tuple[object, ...]]:
    """How each episode stood in the end; numbers may differ in their last digit, which baselines are not kept with."""
    return {
        e.id: (
            e.severity,
            e.onset_s,
            e.opened_s,
            "is slower" in e.summary,
            [layer.group for layer in e.layers[:2]],
        )
        for e in told
    }


def test_instances_that_change_their_build_share_an_alert() -> None:
    made = recording(REAL)
    pipeline = Pipeline(models())
    for manifest in made.manifests:
        pipeline.manifest(manifest)
    told: list[Alert] = []
    for batch in made:
        told += pipeline.update(batch)[0]
        told += pipeline.update(msgspec.structs.replace(batch, instance="sibling"))[0]
    told += pipeline.finish()[0]
    found = builds(told)
    assert len(found) == 4
    assert all(len(alert.instances) == 2 for alert in found)
