"""layerwatch.control: what an instance should sample, and until when. Compacted: the last word on each instance."""

from __future__ import annotations

from typing import Literal

import msgspec

from layerwatch.schemas.codec import Reader

Tier = Literal["off", "baseline", "evidence", "canary"]

#: Share of executions whose layers are sampled in each tier, unless a record says otherwise; baseline is its upper end.
RATES: dict[str, float] = {"off": 0.0, "baseline": 0.01, "evidence": 0.1, "canary": 1.0}


class Control(msgspec.Struct, array_like=True, frozen=True, kw_only=True, tag="layerwatch.control/1"):
    """An order to the agent of an instance's host; without effect from `expires_s` on."""

    service: str
    instance: str
    tier: Tier
    issued_s: float  # unix s
    expires_s: float  # unix s
    rate: float | None = None  # 0..1; None: the tier's
    ceiling_pct: float | None = None  # cost in percent of mean latency; None: the agent's own for this tier
    reason: str = ""


CONTROL_READER = Reader(Control)
