"""layerwatch.decisions and layerwatch.decisions.current: what is to be done, for a limited time (JSON)."""

from __future__ import annotations

import msgspec

from layerwatch.schemas.codec import Reader

CE_TYPE = "layerwatch.decision.v1"

ACTIONS = ("none", "scale_out", "hold_scale_in", "failover", "fallback_precision", "shed", "restore")
MODES = ("shadow", "advise", "enforce")
STATUSES = ("active", "withdrawn", "expired")
DOMAINS = ("capacity", "routing")
VERDICTS = ("confirmed", "useless", "unknown")


class Target(msgspec.Struct, frozen=True, order=True):
    service: str
    instance: str  # "*" is the whole service
    domain: str  # capacity or routing

    @property
    def key(self) -> str:
        return f"{self.service}/{self.instance}/{self.domain}"


class Outcome(msgspec.Struct, frozen=True):
    """What came of a decision, compared with what was expected of it."""

    verdict: str  # confirmed, useless, or unknown: it ended before anything could have come of it
    said: str
    judged_at: str


class Decision(msgspec.Struct, frozen=True, kw_only=True, tag_field="schema", tag="layerwatch.decision/1"):
    """One revision of a lease: it holds until `expires_at` unless it is renewed (same id and epoch) or withdrawn."""

    id: str
    epoch: int
    revision: int
    supersedes: str | None = None
    status: str
    target: Target
    action: str
    mode: str
    parameters: dict[str, str | int | float] = {}
    reason: str
    alerts: list[str]
    confidence: float
    expected: str
    policy: str
    issued_at: str
    expires_at: str
    evidence: list[str] = []  # independent kinds that it rests on
    outcome: Outcome | None = None
    ended_because: str | None = None
    order: str | None = None  # the order of a person that it carries out


DECISION_READER: Reader[Decision] = Reader(Decision, json=True)
