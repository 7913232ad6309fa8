"""What must hold of the alerts, decisions and the history after anything was killed."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import jsonschema
import msgspec

from layerwatch.hosting.kafka_types import Record
from layerwatch.schemas.alerts import Alert
from layerwatch.schemas.decisions import Decision
from layerwatch.schemas.json import load
from layerwatch.schemas.times import unix_s

#: How much later a crash may make an alert open, in event time (source: the promises in the README).
LATER_S = 30.0


def assert_alerts_survived(expected: Sequence[Alert], got: Sequence[Alert]) -> None:
    """The same alerts, each opened hardly later and resolved once; what was repeated says the same."""
    opened = {a.id: unix_s(a.opened_at) for a in expected}
    assert {a.id for a in got} == set(opened), "alerts lost, doubled or with another id"
    by_id = defaultdict(list)
    for alert in got:
        by_id[alert.id].append(alert)
    for id, revisions in by_id.items():
        assert {unix_s(a.opened_at) - opened[id] <= LATER_S for a in revisions} == {True}
        assert len({a.opened_at for a in revisions}) == 1
        _assert_one_life(revisions)


def _assert_one_life(revisions: Sequence[Alert] | Sequence[Decision]) -> None:
    """Revisions count up from 1 without a gap, repeats aside; the last one ends it; none has two statuses."""
    said: dict[int, set[str]] = defaultdict(set)
    for record in revisions:
        said[record.revision].add(record.status)
    assert sorted(said) == list(range(1, len(said) + 1)), f"{revisions[0].id} has revisions {sorted(said)}"
    assert all(len(statuses) == 1 for statuses in said.values()), f"{revisions[0].id}: {said}"
    ends = [n for n, statuses in said.items() if statuses & {"resolved", "withdrawn", "expired"}]
    assert ends == [len(said)], f"{revisions[0].id} ended at {ends} of {len(said)}"


def assert_decisions_survived(expected: Sequence[Decision], got: Sequence[Decision]) -> None:
    """The same leases; played in order, at most one is active for a target and epochs only grow."""
    assert {(d.id, d.epoch, d.action) for d in got} == {(d.id, d.epoch, d.action) for d in expected}
    by_id = defaultdict(list)
    for decision in got:
        by_id[decision.id].append(decision)
    for revisions in by_id.values():
        _assert_one_life(revisions)
    assert_leases_in_order(got)


def assert_leases_in_order(log: Sequence[Decision]) -> None:
    """As a reader plays it that skips what it has seen."""
    held: dict[str, Decision] = {}
    seen: dict[str, int] = {}
    epochs: Counter[str] = Counter()
    for decision in log:
        if decision.revision <= seen.get(decision.id, 0):
            continue
        seen[decision.id] = decision.revision
        key = decision.target.key
        assert decision.epoch >= epochs[key], f"the epoch of {key} went back"
        epochs[key] = decision.epoch
        if decision.status != "active":
            held.pop(key, None)
            continue
        assert key not in held or held[key].id == decision.id, f"two leases on {key}"
        held[key] = decision
    assert held == {}


def assert_history_complete(stored: Sequence[dict[str, Any]], published: Sequence[Alert]) -> None:
    """Every (id, revision) of the topic exactly once."""
    kept = Counter((row["id"], row["revision"]) for row in stored)
    assert set(kept) == {(a.id, a.revision) for a in published}
    assert set(kept.values()) <= {1}


def assert_valid_events(records: Sequence[Record], schema: str, source: str, moment: str) -> None:
    """Each is valid by the shipped schema, and a CloudEvent in binary mode whose time is the field `moment`."""
    validator = jsonschema.Draft202012Validator(load(schema), format_checker=jsonschema.FormatChecker())
    assert records
    for record in records:
        value = msgspec.json.decode(record.value or b"")
        validator.validate(value)
        assert dict(record.headers) == {
            "ce_specversion": b"1.0",
            "ce_id": f"{value['id']}-{value['revision']}".encode(),
            "ce_type": f"layerwatch.{schema}.v1".encode(),
            "ce_source": source.encode(),
            "ce_time": value[moment].encode(),
            "content-type": b"application/json",
        }
