"""Which tier and rate an instance gets: what the processor wants, as far as its cost keeps to the ceiling."""

from __future__ import annotations

from layerwatch.schemas.control import RATES, Control
from layerwatch.schemas.control_page import Sampling

#: An order on a page holds so long unless it is renewed: how soon a runtime falls back when its agent dies (s).
LEASE_S = 10.0
#: Samples that an instance should give each second, whatever its share.
_LEAST_PER_S = 1.0


def sampling(
    control: Control | None,
    *,
    now_s: float,
    relative_cost: float,
    executions_per_s: float,
    ceiling_pct: float,
    raised_ceiling_pct: float,
) -> Sampling:
    """The order for the next seconds.

    `relative_cost` is the latency that a sampled execution adds as a multiple of the mean; `ceiling_pct` holds in the
    tier baseline and `raised_ceiling_pct` above it, unless the order names one of its own.
    """
    valid = control is not None and control.expires_s > now_s
    tier = control.tier if control is not None and valid else "baseline"
    rate = RATES[tier]
    if tier == "baseline" and executions_per_s > 0:
        rate = max(rate, min(1.0, _LEAST_PER_S / executions_per_s))
    ceiling = ceiling_pct if tier in ("off", "baseline") else raised_ceiling_pct
    expires_s = now_s + LEASE_S
    if control is not None and valid:
        rate = control.rate if control.rate is not None else rate
        ceiling = control.ceiling_pct if control.ceiling_pct is not None else ceiling
        expires_s = min(expires_s, control.expires_s)
    allowed = ceiling / 100 / relative_cost
    return Sampling(tier, max(0.0, min(rate, 1.0, allowed)), expires_s, ceiling)
