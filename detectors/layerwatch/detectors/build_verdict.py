"""What can be said of a build against the one before: slower blocks and where, or nothing, or not yet."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import numpy as np

from layerwatch.detectors.arrays import F64
from layerwatch.detectors.lane_comparison import (
    LEAST_EFFECT,
    SURE,
    LaneComparison,
    SizeDifference,
    is_equivalent,
    is_slower,
)

_MATERIAL = float(np.log(1.1))  # of a block's time, over all traffic
#: ... against a build that was not seen for long: a block's share drifts by up to a fifth (source: the recordings).
_MATERIAL_AT_FIRST = float(np.log(1.2))
_SHARE = 0.01  # of the engine's time, below which a block, and of the traffic's, below which a size, is nobody's concern
_SHARE_OUTSIDE = 0.05  # ... for what lies outside of the blocks


class Loss(msgspec.Struct, array_like=True):
    """A block that costs more: where, and by how much there."""

    profile: int
    block: int
    name: str
    ratio: float  # log units, over the sizes where it is slower
    margin: float
    excess: float  # as a share of all time
    material: bool
    sizes: list[int]


class Verdict(msgspec.Struct, array_like=True):
    losses: list[Loss] = []  # the dearest first
    whole: bool = False  # all blocks are slower alike
    level: float = 0.0  # log-ratio of what all blocks share
    level_known: bool = False  # ... is within the margin
    unknown: list[int] = []  # sizes
    equivalent: list[int] = []


def judged(lanes: Mapping[int, LaneComparison]) -> Verdict:
    """Over all optimization profiles."""
    verdict = Verdict()
    total = max(sum(lane.executions for lane in lanes.values()), 1)
    for profile, lane in lanes.items():
        differences = lane.differences()
        known = {d.size for d in differences}
        counts = lane.size_counts()
        verdict.unknown += [size for size, n in counts.items() if size not in known and n >= _SHARE * total]
        if differences:
            _judge_lane(profile, lane, differences, verdict)
    verdict.losses.sort(key=lambda loss: (not loss.material, -loss.excess))
    verdict.unknown = sorted(set(verdict.unknown))
    return verdict


def _judge_lane(
    profile: int, lane: LaneComparison, differences: list[SizeDifference], verdict: Verdict
) -> None:
    shares = lane.share_of_blocks()
    relevant = shares >= np.where(lane.named, _SHARE, _SHARE_OUTSIDE)
    weights = lane.weights([d.size for d in differences])
    difference, ratio, margin = (
        (weights * np.array([getattr(d, name) for d in differences])).sum(0)
        for name in ("difference", "ratio", "margin")
    )
    error = np.sqrt(((weights * np.array([d.error for d in differences])) ** 2).sum(0))
    overall = is_slower(difference, ratio, error, margin) & relevant
    overall[-1] &= sum(d.share for d in differences if d.steady) >= 0.5 * sum(d.share for d in differences)
    known = sum(d.share for d in differences if d.drift_known) >= 0.5 * sum(d.share for d in differences)
    least = _MATERIAL if known else _MATERIAL_AT_FIRST
    # What lies outside of the blocks waits for the host and for copies: it may be slower, and warns of nothing alone.
    material = (
        overall
        & (lane.named | (np.arange(len(overall)) == len(overall) - 1))
        & (difference - SURE * error > least)
        & (ratio > least)
    )
    slower = np.array([d.slower for d in differences]) & relevant
    if overall[-1] or slower[:, -1].any():  # all blocks alike: each that is slower on the clock counts
        verdict.whole = True
        alike = np.array([d.ratio for d in differences]) > LEAST_EFFECT
        slower |= alike & (slower[:, -1:] | overall[-1]) & relevant
        overall |= (ratio > LEAST_EFFECT) & overall[-1] & relevant
        material |= (ratio > least) & material[-1] & relevant
    for block in range(len(lane.blocks)):
        where = [d.size for d, hit in zip(differences, slower[:, block], strict=True) if hit]
        if not where and overall[block]:
            where = [d.size for d in differences if d.ratio[block] > 0]
        if where:
            verdict.losses.append(
                _loss(profile, lane, differences, block, where, bool(material[block]), margin)
            )
    verdict.level = float(difference[-1])
    verdict.level_known = bool(is_equivalent(difference, error, margin)[-1])
    asked = relevant & lane.named
    for d, hits in zip(differences, slower, strict=True):
        if not hits.any():
            decided = bool((d.equivalent | ~asked).all()) or d.share < _SHARE
            (verdict.equivalent if decided else verdict.unknown).append(d.size)


def _loss(
    profile: int,
    lane: LaneComparison,
    differences: list[SizeDifference],
    block: int,
    where: list[int],
    material: bool,
    margin: F64,
) -> Loss:
    there = [d for d in differences if d.size in where]
    weights = lane.weights(where)[:, block]
    worst = float((weights * np.array([d.ratio[block] for d in there])).sum())
    share = lane.share_of_blocks()[block] * sum(d.share for d in there)
    return Loss(
        profile=profile,
        block=block,
        name=lane.blocks[block] or "what lies outside of the blocks",
        ratio=worst,
        margin=float(margin[block]),
        excess=float(np.expm1(worst) * share),
        material=material,
        sizes=where,
    )
