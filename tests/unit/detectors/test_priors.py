"""New instances of a build that others know: they score at once, at their own level."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec
import numpy as np
import pytest
from detection import models, recording
from hypothesis import given
from hypothesis import strategies as st
from rebuilds import Rebuild, rebuilt

from layerwatch.detectors.arrays import pack
from layerwatch.detectors.instance_offset import InstanceOffset
from layerwatch.detectors.instance_stage import InstanceStage, no_priors
from layerwatch.detectors.pipeline import Pipeline
from layerwatch.detectors.priors import Prior, Priors, records_of
from layerwatch.schemas.alerts import Alert
from layerwatch.schemas.baselines import MAX_DATA_BYTES, BaselineRecord
from layerwatch.schemas.codec import Reader, encode
from layerwatch.schemas.profiles import COUNTER_COLUMNS, ProfileBatch
from layerwatch.schemas.signals import Signal

NAME = "resnet50-h200"
HEALTHY_S, FAULT_S = (
    12.0,
    12.7,
)  # of the recording: learnt until then, another process on the GPU from then on
NEW_POD = "new-pod"


def executions(batch: ProfileBatch) -> int:
    return len(batch.end_to_end_ms) // 4


def between(from_s: float, until_s: float, name: str = NAME) -> list[ProfileBatch]:
    made = recording(name)
    return [
        b
        for b in made
        if from_s <= b.window_start_s - made.start_s and b.window_end_s - made.start_s < until_s
    ]


def as_pod(batches: Iterable[ProfileBatch], later_s: float = 0.0, slower: float = 1.0) -> list[ProfileBatch]:
    """The same executions on another instance, `later_s` on and `slower` times as long."""
    return [
        msgspec.structs.replace(
            batch,
            instance=NEW_POD,
            sequence=i,
            window_start_s=batch.window_start_s + later_s,
            window_end_s=batch.window_end_s + later_s,
            times_s=(np.frombuffer(batch.times_s) + later_s).tobytes(),
            end_to_end_ms=(np.frombuffer(batch.end_to_end_ms, "<f4") * np.float32(slower)).tobytes(),
            layers=[
                msgspec.structs.replace(
                    b, times_ms=(np.frombuffer(b.times_ms, "<f4") * np.float32(slower)).tobytes()
                )
                for b in batch.layers
            ],
            counters=moved(batch.counters, later_s),
        )
        for i, batch in enumerate(batches)
    ]


def moved(counters: bytes, later_s: float) -> bytes:
    rows = np.frombuffer(counters).reshape(-1, len(COUNTER_COLUMNS)).copy()
    rows[:, 0] += later_s
    return rows.tobytes()


def learnt(until_s: float = HEALTHY_S) -> Priors:
    """What an instance has told of its build by some second of the recording."""
    made = recording(NAME)
    known = no_priors()
    stage = InstanceStage({m.engine: m for m in made.manifests}, models(), known)
    for batch in between(0.0, until_s):
        stage.update(batch)
        for record in stage.told_priors(batch):
            known.take(Reader(BaselineRecord).decode(encode(record)))
    return known


def pod(known: Priors | None) -> InstanceStage:
    return InstanceStage({m.engine: m for m in recording(NAME).manifests}, models(), known)


def signals(stage: InstanceStage, batches: Iterable[ProfileBatch]) -> list[Signal]:
    return [signal for batch in batches if (signal := stage.update(batch)) is not None]


def first_warning(told: Sequence[Signal]) -> int | None:
    """Executions until an episode of severity warning was told."""
    n = 0
    for signal in told:
        n += signal.executions
        if any(e.severity != "info" for e in signal.episodes):
            return n
    return None


def test_a_new_pod_scores_from_its_first_message_on() -> None:
    batches = as_pod(between(4.0, 8.0), later_s=100.0)
    assert not any(s.warming_up for s in signals(pod(learnt()), batches))
    assert all(s.warming_up for s in signals(pod(None), batches[:4]))


def test_a_new_pod_catches_a_fault_in_its_first_hundred_executions() -> None:
    batches = as_pod(between(FAULT_S + 3.0, FAULT_S + 6.0))  # the other process computes by then
    found = first_warning(signals(pod(learnt()), batches))
    assert found is not None
    assert found <= 128  # the end of the message that holds the hundredth
    alone = first_warning(signals(pod(None), batches))
    assert alone is None or alone > 400


@pytest.mark.parametrize("slower", [0.9, 1.0, 1.1])
def test_a_healthy_new_pod_raises_nothing_at_its_own_level(slower: float) -> None:
    stage = pod(learnt())
    told = signals(stage, as_pod(between(0.0, HEALTHY_S), later_s=100.0, slower=slower))
    assert first_warning(told) is None


def test_a_restart_while_the_level_is_learnt_changes_nothing() -> None:
    known = learnt()
    batches = as_pod(between(FAULT_S - 2.0, FAULT_S + 6.0), slower=1.1)
    for middle in (1, 2, 4, 12):
        stage = pod(known)
        signals(stage, batches[:middle])
        manifests = {m.engine: m for m in recording(NAME).manifests}
        back = InstanceStage.restore(NEW_POD, stage.dump(all=True), manifests, models(), known)
        expected, later = signals(stage, batches[middle:]), signals(back, batches[middle:])
        assert [[(e.id, e.opened_s, e.closed_s) for e in s.episodes] for s in later] == [
            [(e.id, e.opened_s, e.closed_s) for e in s.episodes] for s in expected
        ]


def test_a_replay_does_not_know_its_own_end() -> None:
    known = learnt()
    assert signals(pod(known), as_pod(between(0.0, 2.0)))[0].warming_up


def test_an_instance_tells_its_build_now_and_then_only() -> None:
    made = recording(NAME)
    known, told = no_priors(), []
    stage = InstanceStage({m.engine: m for m in made.manifests}, models(), known)
    for batch in made:
        stage.update(batch)
        for record in stage.told_priors(batch):
            known.take(record)
            told.append(record)
    assert 1 <= len(told) <= 4
    assert all(len(record.data) < 256_000 for record in told)
    assert {record.part for record in told} == {0}


def test_a_first_build_is_compared_with_what_its_siblings_run() -> None:
    made = recording("rebuild-h200")
    change = Rebuild(factor=lambda block, layer, elements: 1.3 if block == "blocks.2" else 1.0)
    manifests, batches = rebuilt(made, 10.0, change)
    pipeline = Pipeline(models())
    for manifest in manifests:
        pipeline.manifest(manifest)
    told: list[Alert] = []
    old = [b for b in batches if b.engine == batches[0].engine]
    new = [msgspec.structs.replace(b, instance=NEW_POD) for b in batches if b.engine != batches[0].engine]
    for batch in old + new[: len(new) // 2]:
        told += pipeline.update(batch)[0]
    alert = [a for a in told if a.kind == "engine_regression"][-1]
    assert alert.instances == [NEW_POD]
    assert alert.severity == "warning"
    assert alert.layers[0].group.startswith("blocks.2")
    assert "new build" in alert.summary


def prior(data: bytes = b"x" * 10, **changes: object) -> Prior:
    return msgspec.convert(
        {"build": "b", "service": "s", "at_s": 10.0, "executions": 1000, "data": data} | changes, Prior
    )


def whole(known: Priors, *records: BaselineRecord) -> None:
    for record in records:
        known.take(record)


def test_pieces_of_a_large_prior_are_put_together_in_any_order() -> None:
    noise = np.random.default_rng(1).integers(0, 256, 3 * MAX_DATA_BYTES, np.uint8)
    records = records_of(prior(pack({"x": noise})), "gpu", "i", 7)
    assert len(records) > 3
    assert all(len(encode(record)) < 1_000_000 for record in records)
    assert len({record.key for record in records}) == len(records)
    known = Priors(7)
    for record in reversed(records):
        assert known.of("b", 1e9) is None
        known.take(record)
    found = known.of("b", 1e9)
    assert found is not None
    assert (found.state()["x"] == noise).all()


def test_pieces_of_two_instances_are_not_mixed() -> None:
    noise = np.random.default_rng(1).integers(0, 256, MAX_DATA_BYTES + 1000, np.uint8)
    one, other = (records_of(prior(pack({"x": noise})), "gpu", name, 7) for name in ("i", "j"))
    known = Priors(7)
    whole(known, one[0], other[1])
    assert known.of("b", 1e9) is None
    whole(known, other[0])
    assert known.of("b", 1e9) is not None


@given(
    data=st.binary(max_size=200),
    part=st.integers(-2, 5),
    parts=st.integers(-2, 5),
    version=st.sampled_from([7, 8]),
)
def test_what_cannot_be_read_is_no_prior(data: bytes, part: int, parts: int, version: int) -> None:
    known = Priors(7)
    record = records_of(prior(b"x"), "gpu", "i", version)[0]
    known.take(msgspec.structs.replace(record, data=data, part=part, parts=parts))
    assert known.of("b", 1e9) is None


def test_a_prior_that_is_no_state_of_a_scorer_starts_nothing() -> None:
    made = recording(NAME)
    known = no_priors()
    version = learnt_version()
    broken = prior(pack({"hot": {}, "heavy": {}}), build=made.manifests[0].engine, at_s=0.0)
    whole(known, *records_of(broken, "gpu", "i", version))
    assert known.of(made.manifests[0].engine, 1e12) is not None
    assert signals(pod(known), between(0.0, 2.0))[0].warming_up


def learnt_version() -> int:
    stage, told = pod(no_priors()), []
    for batch in between(0.0, HEALTHY_S):
        stage.update(batch)
        told += stage.told_priors(batch)
    return told[0].state_version


def test_the_offset_follows_a_level_and_stops_at_its_bound() -> None:
    draw = np.random.default_rng(2)
    for level, expected in ((0.1, 0.1), (-0.08, -0.08), (0.5, 0.15)):
        offset, moved = InstanceOffset(0.15), 0.0
        for _ in range(60):
            moved += offset.push(level - moved + 0.02 * draw.standard_normal((10, 30)))
        assert offset.settled
        assert moved == pytest.approx(offset.total)
        assert moved == pytest.approx(expected, abs=0.02)
        assert offset.push(np.ones((10, 30))) == 0.0
