"""Healthy noise of block levels, in log units, kind by kind: what the slow path must be silent on."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from layerwatch.detectors.arrays import F32, F64
from layerwatch.detectors.slow.mix import Links

Draw = np.random.Generator
Noise = Callable[[Draw, int, int], F32]  # (draw, blocks, streams) -> [blocks, streams]

_DAY = 1440  # blocks
_BUCKETS = 12


def independent(draw: Draw, blocks: int, streams: int) -> F32:
    """Normal, 1 %."""
    return 0.01 * draw.standard_normal((blocks, streams), np.float32)


def heavy_tails(draw: Draw, blocks: int, streams: int) -> F32:
    """Student's t with three degrees of freedom, 1 %: one block in 1 000 is off by 10 %."""
    chi = 2 * draw.standard_gamma(1.5, (blocks, streams), np.float32)
    return np.asarray(independent(draw, blocks, streams) / np.sqrt(chi / 3), np.float32)


def autocorrelated(draw: Draw, blocks: int, streams: int) -> F32:
    """A first-order autoregression with .95, 2 %."""
    return _autoregression(draw, blocks, streams, 0.95, 0.02)


def daily_cycle(draw: Draw, blocks: int, streams: int) -> F32:
    """A sine of +-4 % a day, and 0.5 % of normal noise."""
    phase = draw.uniform(0, 2 * np.pi, streams)
    cycle = 0.04 * np.sin(2 * np.pi * np.arange(blocks)[:, None] / _DAY + phase)
    return cycle.astype(np.float32) + 0.5 * independent(draw, blocks, streams)


def drift(draw: Draw, blocks: int, streams: int) -> F32:
    """Ramps of up to 1 % an hour, another one every six hours, within +-10 %, and 0.5 % of normal noise."""
    slopes = draw.uniform(-0.01 / 60, 0.01 / 60, (blocks // 360 + 1, streams))
    level = np.cumsum(np.repeat(slopes, 360, 0)[:blocks], 0)
    folded = np.abs((level - 0.1) % 0.4 - 0.2) - 0.1  # reflected at both ends
    return folded.astype(np.float32) + 0.5 * independent(draw, blocks, streams)


def ties(draw: Draw, blocks: int, streams: int) -> F32:
    """Normal, 0.3 %, on a timer whose tick is 0.5 %: a handful of distinct values."""
    return np.round(0.3 * independent(draw, blocks, streams) / 0.005) * np.float32(0.005)


def busy_and_quiet(draw: Draw, blocks: int, streams: int) -> F32:
    """Normal, from 0.3 % at noon to 1 % at night, when fewer executions make a median."""
    phase = draw.uniform(0, 2 * np.pi, streams)
    load = np.sin(2 * np.pi * np.arange(blocks)[:, None] / _DAY + phase)
    return np.exp(0.6 * load).astype(np.float32) * 0.55 * independent(draw, blocks, streams)


def mix_changes(draw: Draw, blocks: int, streams: int) -> F32:
    """The chained index of buckets whose levels are 10 % apart, while their shares move, and jump every few hours."""
    out = np.empty((blocks, streams), np.float32)
    links, offset = Links(streams, _BUCKETS), 0.1 * draw.standard_normal((streams, _BUCKETS))
    target = walk = 2 * draw.standard_normal((streams, _BUCKETS))
    for block in range(blocks):
        jump = draw.random(streams) < 1 / 200
        if jump.any():
            target = np.where(jump[:, None], 2 * draw.standard_normal((streams, _BUCKETS)), target)
            sudden = jump & (draw.random(streams) < 0.5)
            walk = np.where(sudden[:, None], target, walk)
        walk = walk + 0.02 * (target - walk)
        share = np.exp(walk - walk.max(1, keepdims=True))
        counts = np.floor(320 * share / share.sum(1, keepdims=True))
        noise = 0.03 * draw.standard_normal(counts.shape) / np.sqrt(np.maximum(counts, 1))
        levels = np.where(counts >= 5, offset + noise, np.nan)
        out[block] = links.update(levels, np.where(counts >= 5, counts, 0.0))
    return out


def random_walk(draw: Draw, blocks: int, streams: int) -> F32:
    """A level that wanders by 0.1 % a block (0.8 % an hour) within +-10 %, and 0.3 % of normal noise."""
    level = np.cumsum(0.001 * draw.standard_normal((blocks, streams), np.float32), 0, dtype=np.float64)
    folded = np.abs((level - 0.1) % 0.4 - 0.2) - 0.1
    return folded.astype(np.float32) + 0.3 * independent(draw, blocks, streams)


def two_states(draw: Draw, blocks: int, streams: int) -> F32:
    """A level that flips by 7 % and back after 20 blocks on average, as clocks between two states; 0.5 % of noise."""
    flips = draw.random((blocks, streams)) < 1 / 20
    return 0.07 * (np.cumsum(flips, 0) % 2).astype(np.float32) + 0.5 * independent(draw, blocks, streams)


def replayed(stretches: Sequence[F64]) -> Noise:
    """Real levels: random stretches of up to 40 blocks of what was recorded, one after another."""

    def noise(draw: Draw, blocks: int, streams: int) -> F32:
        out = np.empty((blocks, streams), np.float32)
        lengths = np.array([len(stretch) for stretch in stretches], float)
        for stream in range(streams):
            filled = 0
            while filled < blocks:
                stretch = stretches[int(draw.choice(len(stretches), p=lengths / lengths.sum()))]
                size = min(int(draw.integers(20, 41)), len(stretch), blocks - filled)
                start = int(draw.integers(0, len(stretch) - size + 1))
                out[filled : filled + size, stream] = stretch[start : start + size]
                filled += size
        return out

    return noise


KINDS: dict[str, Noise] = {
    "independent": independent,
    "heavy_tails": heavy_tails,
    "autocorrelated": autocorrelated,
    "daily_cycle": daily_cycle,
    "drift": drift,
    "random_walk": random_walk,
    "ties": ties,
    "busy_and_quiet": busy_and_quiet,
    "mix_changes": mix_changes,
    "two_states": two_states,
}


def _autoregression(draw: Draw, blocks: int, streams: int, r: float, deviation: float) -> F32:
    out = draw.standard_normal((blocks, streams), np.float32)
    out *= np.float32(deviation * np.sqrt(1 - r * r))
    out[0] /= np.float32(np.sqrt(1 - r * r))
    for block in range(1, blocks):
        out[block] += np.float32(r) * out[block - 1]
    return out
