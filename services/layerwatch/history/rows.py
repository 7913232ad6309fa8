"""Records of the topics as rows of the database."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

from layerwatch.history.tables import ALERT, DECISION, Kind
from layerwatch.schemas.alerts import ALERT_READER
from layerwatch.schemas.decisions import DECISION_READER
from layerwatch.schemas.errors import InvalidRecord
from layerwatch.schemas.times import unix_s
from layerwatch.schemas.topics import ALERTS, DECISIONS

_SQLITE_MAX = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Revision:
    """One revision of an alert or a decision. `fields` are in the order of `kind.columns`, `json` is verbatim."""

    kind: Kind
    id: str
    revision: int
    moment_ms: int
    fields: tuple[str, ...]
    json: str


def alert_row(data: bytes) -> Revision:
    """The row of an alert; raises InvalidRecord."""
    alert = ALERT_READER.decode(data)
    causes = [cause.cause for cause in alert.causes]
    fields = (
        alert.service,
        alert.kind,
        alert.severity,
        alert.status,
        json.dumps(alert.instances),
        json.dumps(causes),
    )
    return _row(ALERT, alert.id, alert.revision, alert.opened_at, fields, data)


def decision_row(data: bytes) -> Revision:
    """The row of a decision; raises InvalidRecord."""
    decision = DECISION_READER.decode(data)
    target = decision.target
    fields = (target.service, target.key, target.domain, decision.action, decision.mode, decision.status)
    return _row(DECISION, decision.id, decision.revision, decision.issued_at, fields, data)


#: What each topic holds.
READERS: dict[str, Callable[[bytes], Revision]] = {ALERTS: alert_row, DECISIONS: decision_row}


def _row(kind: Kind, id: str, revision: int, moment: str, fields: tuple[str, ...], data: bytes) -> Revision:
    if not 0 <= revision <= _SQLITE_MAX:
        raise InvalidRecord("malformed", f"revision {revision} of {kind.name} {id} is out of range")
    try:
        # The reader skips fields that it does not know without looking whether they are UTF-8.
        return Revision(kind, id, revision, round(unix_s(moment) * 1000), fields, data.decode())
    except ValueError as error:
        raise InvalidRecord("malformed", f"{kind.name} {id}: {error}") from error
