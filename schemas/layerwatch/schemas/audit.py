"""layerwatch.audit: what the decision centre did or left, why, on which evidence, by which versions (JSON, append-only)."""

from __future__ import annotations

import msgspec

from layerwatch.schemas.codec import Reader

CE_TYPE = "layerwatch.audit.v1"

#: issued and ended: a decision. judged: what came of it. held_back: wanted, but a limit forbade it. ignored: our own doing.
#: killed and resumed: a person switched decisions off and on.
EVENTS = ("issued", "ended", "judged", "held_back", "ignored", "killed", "resumed")


class AuditEntry(msgspec.Struct, frozen=True, kw_only=True, tag_field="schema", tag="layerwatch.audit/1"):
    """`number` counts a service's entries; after a crash an entry may come twice, under the same id."""

    id: str  # service/number
    service: str
    number: int
    at: str  # event time
    what: str
    why: str
    target: str | None = None
    action: str | None = None
    mode: str = ""
    decision: str | None = None
    epoch: int | None = None
    alerts: dict[str, int] = {}  # id: revision that was known
    evidence: list[str] = []
    policy: str
    software: str = ""  # version of layerwatch


AUDIT_READER: Reader[AuditEntry] = Reader(AuditEntry, json=True)
