"""Alerts and decisions for tests, as they lie in their topics."""

from __future__ import annotations

import json
from typing import Any

from layerwatch.schemas.times import rfc3339

#: Unix seconds of the first moment in tests: 2026-11-22T10:00:00Z.
START_S = 1_795_341_600.0


def alert_json(id: str = "a", revision: int = 1, opened_s: float = START_S, **changes: Any) -> bytes:
    """An alert that the schema accepts, with `changes` to its fields."""
    alert: dict[str, Any] = {
        "schema": "layerwatch.alert/1",
        "id": id,
        "revision": revision,
        "status": "firing",
        "severity": "warning",
        "kind": "layer_latency",
        "service": "bert-qa",
        "scope": "instance",
        "instances": ["bert-qa-0"],
        "engine": "sha256:1",
        "host": "gpu-17",
        "gpu": "GPU-1",
        "started_at": rfc3339(opened_s - 2),
        "opened_at": rfc3339(opened_s),
        "updated_at": rfc3339(opened_s + revision),
        "closed_at": None,
        "summary": "attention of block 7 takes 4.5x its usual time",
        "impact": {
            "executions": 812,
            "affected": 410,
            "p50_ratio": 1.9,
            "p99_ratio": 4.4,
            "baseline_p99_ms": 3.2,
            "observed_p99_ms": 14.1,
        },
        "buckets": [{"profile": 0, "shapes": {"ids": [1, 128]}, "executions": 120, "ratio": 4.1}],
        "layers": [
            {
                "name": "/block.7/attn/MatMul",
                "group": "blocks.7/attn",
                "index": 211,
                "baseline_ms": 0.015,
                "observed_ms": 0.067,
                "ratio": 4.5,
                "excess_ms": 0.052,
            }
        ],
        "causes": [{"cause": "gpu_contention", "confidence": 0.86, "evidence": "SM utilisation 34 -> 97 %"}],
        "detectors": [{"name": "isolation_forest", "score": 0.71, "threshold": 0.62, "p_value": 1e-6}],
    }
    return json.dumps({**alert, **changes}).encode()


def decision_json(id: str = "d", revision: int = 1, issued_s: float = START_S, **changes: Any) -> bytes:
    """A decision that the schema accepts, with `changes` to its fields."""
    decision: dict[str, Any] = {
        "schema": "layerwatch.decision/1",
        "id": id,
        "epoch": 41,
        "revision": revision,
        "supersedes": None,
        "status": "active",
        "target": {"service": "bert-qa", "instance": "*", "domain": "capacity"},
        "action": "scale_out",
        "mode": "advise",
        "parameters": {"replicas": 6},
        "reason": "load grows",
        "alerts": ["a"],
        "confidence": 0.9,
        "expected": "p99 under 5 ms within 120 s",
        "policy": "default@3",
        "issued_at": rfc3339(issued_s),
        "expires_at": rfc3339(issued_s + 300),
    }
    return json.dumps({**decision, **changes}).encode()
