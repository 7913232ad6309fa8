"""What is told of healthy instances, for whoever fits models."""

from __future__ import annotations

import msgspec
import numpy as np
from detection import recording

from layerwatch.detectors.arrays import F64
from layerwatch.detectors.feature_log import FeatureLog
from layerwatch.detectors.instance_stage import InstanceStage
from layerwatch.detectors.models import Models
from layerwatch.detectors.pooled import NAMES, SCHEMA
from layerwatch.detectors.scorer import Evidence, Scorer
from layerwatch.schemas.codec import Reader, encode
from layerwatch.schemas.features import FeatureRecord
from layerwatch.schemas.profiles import ProfileBatch

RESNET = recording("resnet50-h200")
FIRST = RESNET.batches[0]


class Healthy(Scorer):
    """Finds a window, a level and the same minute in every message."""

    def __init__(self, level: float = 0.0) -> None:
        super().__init__({})
        self.level = level

    def healthy(self) -> list[tuple[F64 | None, dict[str, float]]]:
        return [(np.full(len(NAMES), self.level), {"host": self.level})]

    def healthy_minute(self) -> dict[str, float]:
        return {"end to end": self.level}


def batch(**changes: object) -> ProfileBatch:
    return msgspec.structs.replace(FIRST, **changes)


def evidence(clock_s: float) -> Evidence:
    return Evidence(clock_s, 1, 1.0, False)


def test_a_record_covers_a_minute_and_follows_upon_the_one_before() -> None:
    log, scorer = FeatureLog(), Healthy()
    told = [record for second in range(200) for record in log.add(batch(), scorer, evidence(second))]
    assert [record.at_s for record in told] == [60.0, 121.0, 182.0]
    assert [record.follows for record in told] == [False, True, True]
    assert {len(np.frombuffer(record.windows, "<f4")) for record in told} == {61 * len(NAMES)}
    assert {(record.features, record.columns) for record in told} == {(SCHEMA, len(NAMES))}
    assert sum(len(np.frombuffer(record.seconds["host"], "<f4")) for record in [*told, *log.end()]) == 200


def test_windows_next_to_one_another_are_told_once() -> None:
    log, scorer = FeatureLog(window_every_s=1.0), Healthy()
    told = [r for tick in range(300) for r in log.add(batch(), scorer, evidence(tick / 4))]
    assert [len(record.windows) // 4 // len(NAMES) for record in told] == [61]


def test_a_new_build_or_process_begins_a_record_that_follows_upon_nothing() -> None:
    for changed in (batch(engine="other"), batch(boot_ms=FIRST.boot_ms + 1)):
        log = FeatureLog()
        assert log.add(batch(), Healthy(), evidence(0.0)) == []
        (ended,) = log.add(changed, Healthy(), evidence(1.0))
        assert ended.build == FIRST.engine
        (begun,) = log.end()
        assert begun.build == changed.engine
        assert not begun.follows


def test_who_leaves_tells_what_it_has() -> None:
    log = FeatureLog()
    log.add(batch(), Healthy(), evidence(0.0))
    assert len(log.add(batch(state="leaving"), Healthy(), evidence(1.0))) == 1
    assert log.end() == []


def test_trouble_is_a_gap() -> None:
    manifests = {manifest.engine: manifest for manifest in RESNET.manifests}
    stage = InstanceStage(manifests, Models())
    told: list[FeatureRecord] = []
    firing = 0
    for message in RESNET.batches:
        signal = stage.update(message)
        assert signal is not None
        firing += bool(signal.episodes)
        told += stage.features
        if any(episode.severity != "info" for episode in signal.episodes):
            assert not any(r.at_s >= message.window_end_s for r in stage.features)
    assert firing
    assert sum(not record.follows for record in told) > 3
    times = [record.at_s for record in told]
    assert times == sorted(set(times))


def test_a_repeat_tells_nothing() -> None:
    stage = InstanceStage({m.engine: m for m in RESNET.manifests}, Models())
    for message in RESNET.batches[:40]:
        stage.update(message)
    before = stage.features
    assert stage.update(RESNET.batches[39]) is None
    assert stage.features is before  # the caller asks for them after a message that was new only


def test_records_survive_the_way_through_kafka() -> None:
    log = FeatureLog()
    log.add(batch(), Healthy(0.25), evidence(3.0))
    (record,) = log.end()
    assert Reader(FeatureRecord).decode(encode(record)) == record
    assert record.key == FIRST.engine
