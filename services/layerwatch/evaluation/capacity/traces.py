"""Arrivals of real services, in the forms in which they are published. None comes with the package: see `PUBLISHED`."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np

from layerwatch.detectors.arrays import F64
from layerwatch.detectors.load.block import BLOCK_S
from layerwatch.schemas.errors import ConfigError

PUBLISHED = (
    "github.com/Azure/AzurePublicDataset data/AzureLLMInferenceTrace_{code,conv}.csv (CC-BY 4.0),"
    " github.com/kvcache-ai/Mooncake FAST25-release/traces/*.jsonl (Apache-2.0)"
    " or a folder of github.com/alibaba/ServeGen data (Apache-2.0)"
)

#: What a request costs a replica. Assumed, not measured: the traces tell tokens, not times.
PREFILL_TOKENS_S = 5_000.0
DECODE_TOKENS_S = 50.0

_LEAST_ARRIVALS = 500

#: Of a ServeGen folder: mean rate that it is thinned to (executions a second), and its tokens, which its rates do not tell.
_SERVEGEN_RATE = 5.0
_SERVEGEN_TOKENS = (1_000, 130)


@dataclass(frozen=True, slots=True)
class Arrivals:
    """`times_s` [n] ascending from 0, and how long each execution keeps a replica busy, `service_s` [n]."""

    name: str
    times_s: F64
    service_s: F64

    @property
    def hours(self) -> float:
        return float(self.times_s[-1]) / 3600


def read(path: Path) -> Arrivals:
    """A trace from a file or folder; raises ConfigError naming what is wrong and where traces are published."""
    try:
        if path.is_dir():
            return _drawn(path)
        rows = _jsonl(path) if path.suffix == ".jsonl" else _csv(path)
        times, context, generated = np.array(list(rows), np.float64).T
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path} holds no arrivals ({error!r}): name a trace of {PUBLISHED}") from error
    if len(times) < _LEAST_ARRIVALS:
        raise ConfigError(f"{path}: {len(times)} arrivals are too few, {_LEAST_ARRIVALS} are needed")
    order = np.argsort(times, kind="stable")
    service = context / PREFILL_TOKENS_S + generated / DECODE_TOKENS_S
    return Arrivals(path.stem, (times - times.min())[order], service[order])


def rates(arrivals: Arrivals) -> F64:
    """Executions a second by block of 15 s."""
    out: F64 = np.bincount((arrivals.times_s // BLOCK_S).astype(np.int64)) / BLOCK_S
    return out


def _csv(path: Path) -> Iterator[tuple[float, float, float]]:
    """Azure: TIMESTAMP with seven digits of a second, ContextTokens, GeneratedTokens."""
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            moment = datetime.fromisoformat(row["TIMESTAMP"][:26] + "+00:00")
            yield moment.timestamp(), float(row["ContextTokens"]), float(row["GeneratedTokens"])


def _jsonl(path: Path) -> Iterator[tuple[float, float, float]]:
    """Mooncake: timestamp in ms, input_length, output_length."""
    with path.open() as file:
        for line in file:
            row = json.loads(line)
            yield row["timestamp"] / 1000, row["input_length"], row["output_length"]


def _drawn(folder: Path) -> Arrivals:
    """ServeGen: rates and their spread by client and ten minutes. The rates are real; the arrivals between are drawn from them."""
    rates: dict[float, float] = {}
    spread: dict[float, float] = {}
    for path in sorted(folder.glob("*-trace.csv")):
        with path.open(newline="") as file:
            for start_s, rate, cv, *_ in csv.reader(file):
                if rate:
                    rates[float(start_s)] = rates.get(float(start_s), 0.0) + float(rate)
                    spread[float(start_s)] = spread.get(float(start_s), 0.0) + float(rate) * float(cv) ** 2
    starts = np.array(sorted(rates))
    total = np.array([rates[s] for s in starts])
    known = total > 0.02 * np.median(total)  # windows that were not recorded
    starts, total = starts[known], total[known]
    cv2 = np.array([spread[s] for s in starts]) / total
    draw = np.random.default_rng(7)
    seconds = np.arange(starts[0], starts[-1])
    share = _SERVEGEN_RATE / total.mean()
    rate = share * np.interp(seconds, starts + 300, total)
    # Thinning brings the counts' spread nearer to that of chance.
    dispersion = 1 + share * (np.interp(seconds, starts + 300, np.minimum(cv2, 100)) - 1).clip(0)
    # Bursts last some seconds: their intensity changes every 15.
    shape = rate * 15 / np.maximum(dispersion - 1, 1e-3)
    intensity = np.repeat(draw.gamma(shape[::15], 1 / shape[::15]), 15)[: len(rate)] * rate
    counts = draw.poisson(intensity)
    times = np.repeat(seconds - seconds[0], counts) + draw.random(counts.sum())
    context, generated = _SERVEGEN_TOKENS
    service = context / PREFILL_TOKENS_S + draw.exponential(generated, len(times)) / DECODE_TOKENS_S
    return Arrivals(f"{folder.parent.name}-{folder.name}", np.sort(times), service)
