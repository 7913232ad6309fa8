"""How often sampling is raised where nothing is wrong, and how soon by rare spikes: `python tests/benchmarks/suspicion.py FILE...`

The healthy executions of each recording are played round and round, in pieces of 200 to 2 000 in random order, with 1 % of
the layers sampled and the run's own orders obeyed; then 0.3 % and 1 % of the executions take eight times as long.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from layerwatch.detectors.arrays import Ints
from layerwatch.detectors.models import shipped
from layerwatch.detectors.pipeline import Pipeline
from layerwatch.evaluation.power.healthy import Healthy, healthy_of
from layerwatch.recording.cut import Run, cut
from layerwatch.recording.obey import Obedient
from layerwatch.recording.open import open_recording

_HEALTHY, _SPIKES = 150_000, 6_000  # executions
_LEARN = 10_000
_SHARES = (0.003, 0.01)
_PIECE = (200, 2000)
_START_S = 1_800_000_000.0


def main(files: list[str]) -> None:
    for file in files:
        healthy = healthy_of(open_recording(Path(file)))
        tell(file, healthy, 0.0, _HEALTHY)
        for share in _SHARES:
            tell(file, healthy, share, _SPIKES)


def tell(file: str, healthy: Healthy, share: float, executions: int) -> None:
    rng = np.random.default_rng(1)
    at = order(healthy, _LEARN + executions, rng)
    run = healthy.run(at, _START_S)
    begin = _LEARN
    hit = (np.arange(len(at)) >= begin) & (rng.random(len(at)) < share)
    run.end_to_end_ms[hit] *= 8.0
    found = watch(healthy, run, float(run.times_s[begin]))
    name = "healthy" if not share else f"spikes_{share:.1%}"
    print(json.dumps({"recording": Path(file).stem, "load": name, **found}), flush=True)


def order(healthy: Healthy, count: int, rng: np.random.Generator) -> Ints:
    pieces = [np.arange(len(healthy))]
    while sum(map(len, pieces)) < count:
        length = int(rng.integers(*_PIECE))
        first = int(rng.integers(max(1, len(healthy) - length)))
        pieces.append(np.arange(first, min(first + length, len(healthy))))
    return np.concatenate(pieces)[:count]


def watch(healthy: Healthy, run: Run, from_s: float) -> dict[str, Any]:
    pipeline, obedient = Pipeline(shipped()), Obedient(0.01)
    pipeline.manifest(healthy.manifest)
    tier, raised, evidence_s, canary_s, alerts = "baseline", 0, 0.0, 0.0, []
    executions = sampled = 0
    first_raised: int | None = None
    first_alert: int | None = None
    for recorded in cut(run):
        batch = obedient.thinned(recorded)
        told = pipeline.update(batch)[0]
        obedient.take(pipeline.orders)
        if batch.window_start_s < from_s:
            tier = batch.tier
            continue
        took_s = batch.window_end_s - batch.window_start_s
        evidence_s += took_s * (batch.tier == "evidence")
        canary_s += took_s * (batch.tier == "canary")
        if batch.tier in ("evidence", "canary") and tier == "baseline":
            raised += 1
            first_raised = executions if first_raised is None else first_raised
        tier = batch.tier
        executions += len(batch.end_to_end_ms) // 4
        sampled += sum(len(block.rows) // 4 for block in batch.layers)
        alerts += [alert for alert in told if alert.revision == 1 and alert.severity != "info"]
        if alerts and first_alert is None:
            first_alert = executions
    seconds = float(run.times_s[-1]) - from_s
    return {
        "seconds": round(seconds),
        "executions": executions,
        "times_raised": raised,
        "raised_per_hour": round(raised / seconds * 3600, 1),
        "evidence_share": round(evidence_s / seconds, 4),
        "canary_share": round(canary_s / seconds, 4),
        "sampled_share": round(sampled / executions, 4),
        "alerts": len(alerts),
        "raised_after_executions": first_raised,
        "alert_after_executions": first_alert,
        "causes": sorted({alert.causes[0].cause for alert in alerts if alert.causes}),
    }


if __name__ == "__main__":
    main(sys.argv[1:])
