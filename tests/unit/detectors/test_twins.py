"""Executions that are sampled run on the twin: raising the sampling changes what they take, and is no trouble."""

from __future__ import annotations

from functools import lru_cache

import msgspec
import numpy as np
import pytest
from detection import models, recording

from layerwatch.detectors.pipeline import Pipeline
from layerwatch.evaluation.shuffled import joined
from layerwatch.recording.recording import Recording
from layerwatch.recording.thin import chosen, thinned_batch
from layerwatch.schemas.alerts import Alert
from layerwatch.schemas.profiles import IN_GRAPH, ON_TWIN, ProfileBatch

NAME = "resnet50-h200"

#: Of a minute and a half of its executions: canary, baseline, suspicion, canary, baseline.
TIERS = ((0.2, 1.0), (0.4, 0.01), (0.6, 0.1), (0.8, 1.0), (1.0, 0.01))


@lru_cache(maxsize=1)
def healthy() -> Recording:
    made = recording(NAME)
    phases = [phase for phase in made.phases if phase.name == "normal"]
    return joined(made, [*phases, *phases], "healthy")


def rate_at(share: float) -> float:
    return next(rate for until, rate in TIERS if share < until)


def as_sampled(batch: ProfileBatch, first: int, rate: float, twin: float, host: float = 1.0) -> ProfileBatch:
    """As a runtime would have told it whose own executions are graphs, and whose twin takes `twin` times as long."""
    own_ms = np.frombuffer(batch.end_to_end_ms, "<f4")
    sampled = chosen(first, len(own_ms), rate)
    flags = np.frombuffer(batch.flags, "u1") | np.where(sampled, ON_TWIN, IN_GRAPH).astype("u1")
    took_ms = own_ms * host * np.where(sampled, twin, 1.0)
    told = msgspec.structs.replace(
        batch, flags=flags.tobytes(), end_to_end_ms=took_ms.astype("<f4").tobytes()
    )
    return thinned_batch(told, sampled, rate)


def alerts(twin: float, slower_from: float = 2.0, host: float = 1.0) -> list[Alert]:
    """More than notices; every execution takes `host` times as long from a share of the recording on."""
    made, pipeline, told, first = healthy(), Pipeline(models()), [], 0
    for manifest in made.manifests:
        pipeline.manifest(manifest)
    for batch in made:
        share = (batch.window_end_s - made.start_s) / (made.end_s - made.start_s)
        slower = host if share > slower_from else 1.0
        told += pipeline.update(as_sampled(batch, first, rate_at(min(share, 0.999)), twin, slower))[0]
        first += len(batch.end_to_end_ms) // 4
    return [alert for alert in told if alert.severity != "info"]


@pytest.mark.parametrize("twin", [0.7, 1.0, 1.7, 2.2])
def test_sampling_more_or_less_is_no_trouble(twin: float) -> None:
    assert [alert.summary for alert in alerts(twin)] == []


@pytest.mark.parametrize(("slower_from", "tier"), [(0.5, "baseline"), (0.7, "canary"), (0.9, "baseline")])
def test_a_slow_host_is_found_on_either_path(slower_from: float, tier: str) -> None:
    told = alerts(1.7, slower_from, host=2.2)
    assert told, tier
    assert told[0].kind == "host_gap"
