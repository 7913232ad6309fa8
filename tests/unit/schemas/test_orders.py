"""Orders of people: which hold when, what is refused, and which alerts a silence fits."""

from __future__ import annotations

from typing import Any

import jsonschema
import msgspec
import pytest
from history_records import alert_json
from hypothesis import given
from hypothesis import strategies as st

from layerwatch.schemas.alerts import ALERT_READER
from layerwatch.schemas.codec import encode_json
from layerwatch.schemas.errors import InvalidRecord
from layerwatch.schemas.json import load
from layerwatch.schemas.operations import (
    OPERATION_READER,
    Mark,
    Matcher,
    Operation,
    Override,
    kill_id,
)
from layerwatch.schemas.orders import Orders, holds, validate
from layerwatch.schemas.silences import LABELS, silenced
from layerwatch.schemas.times import rfc3339

NOW_S = 1_800_000_000.0
SCHEMA = jsonschema.Draft202012Validator(load("operation"), format_checker=jsonschema.FormatChecker())


def order(kind: str = "kill", **changes: Any) -> Operation:
    good: dict[str, Any] = {
        "id": "o-1",
        "kind": kind,
        "service": "bert-qa",
        "issued_at": rfc3339(NOW_S),
        "expires_at": rfc3339(NOW_S + 60),
    }
    if kind == "override":
        good["override"] = Override("failover", "routing")
    if kind == "mark":
        good |= {"mark": Mark("engine", engine="sha256:2"), "expires_at": None}
    return Operation(**(good | changes))


def test_an_order_holds_from_its_beginning_to_its_end() -> None:
    given_ = order(starts_at=rfc3339(NOW_S + 10))
    assert [holds(given_, NOW_S + at) for at in (0, 9.9, 10, 59.9, 60)] == [False, False, True, True, False]
    ended = msgspec.structs.replace(given_, ended_at=rfc3339(NOW_S + 20))
    assert [holds(ended, NOW_S + at) for at in (15, 20)] == [True, False]
    assert holds(order(expires_at=None), NOW_S + 1e9)


@given(st.permutations(range(1, 6)))
def test_the_highest_revision_of_an_order_counts_in_whatever_order_they_come(revisions: list[int]) -> None:
    orders = Orders()
    for revision in [*revisions, *revisions]:
        orders.take(order(revision=revision, reason=str(revision)))
    assert [o.reason for o in orders.all()] == ["5"]


def test_a_kill_of_all_and_of_one_service_both_count() -> None:
    orders = Orders()
    orders.take(order(id=kill_id("bert-qa"), reason="one"))
    assert orders.killed("other", NOW_S) is None
    orders.take(order(id=kill_id("*"), service="*", reason="all", expires_at=None))
    assert orders.killed("other", NOW_S) == orders.get("kill/*")
    orders.take(order(id=kill_id("*"), service="*", revision=2, ended_at=rfc3339(NOW_S + 5)))
    assert orders.killed("other", NOW_S + 5) is None
    assert orders.killed("bert-qa", NOW_S + 5) is not None


@pytest.mark.parametrize(
    ("wrong", "remedy"),
    [
        (order(id=""), "must not be empty"),
        (order(issued_at="yesterday"), "yesterday"),
        (order(issued_at="2026-11-22T10:00:00"), "no UTC offset"),
        (order(expires_at=rfc3339(NOW_S)), "a later expires_at"),
        (order("silence", expires_at=None), "needs expires_at"),
        (order("override", expires_at=None), "needs expires_at"),
        (order("override", override=None), "action and domain"),
        (order("override", override=Override("jump", "routing")), "one of none, scale_out"),
        (order("override", override=Override("none", "moon")), "capacity, routing"),
        (order("mark", mark=None), "what has changed"),
        (order("silence", matchers=[Matcher("color", "red")]), "id, kind, cause"),
        (order("silence", matchers=[Matcher("host", "(", is_regex=True)]), "regular expression"),
    ],
)
def test_what_nobody_could_follow_is_refused_with_its_remedy(wrong: Operation, remedy: str) -> None:
    with pytest.raises(InvalidRecord, match=remedy):
        validate(wrong)
    orders = Orders()
    with pytest.raises(InvalidRecord):
        orders.take(wrong)
    assert orders.all() == []


@pytest.mark.parametrize("kind", ["kill", "override", "silence", "mark"])
def test_every_kind_is_valid_by_the_shipped_schema_and_comes_back(kind: str) -> None:
    made = order(kind, matchers=[Matcher("host", "gpu-.*", is_regex=True)] if kind == "silence" else [])
    validate(made)
    SCHEMA.validate(msgspec.json.decode(encode_json(made)))
    assert OPERATION_READER.decode(encode_json(made)) == made


@pytest.mark.parametrize("missing", ["override", "expires_at", "mark"])
def test_the_schema_knows_what_each_kind_needs(missing: str) -> None:
    made = msgspec.json.decode(encode_json(order("mark" if missing == "mark" else "override")))
    with pytest.raises(jsonschema.ValidationError):
        SCHEMA.validate({name: value for name, value in made.items() if name != missing})


@pytest.mark.parametrize(
    ("matcher", "fits"),
    [
        (Matcher("kind", "layer_latency"), True),
        (Matcher("kind", "layer_latency", is_equal=False), False),
        (Matcher("kind", "layer_.*", is_regex=True), True),
        (Matcher("kind", "layer", is_regex=True), False),
        (Matcher("instance", "bert-qa-0"), True),
        (Matcher("instance", "bert-qa-1"), False),
        (Matcher("instance", "bert-qa-1", is_equal=False), True),
        (Matcher("cause", "gpu_contention"), True),
    ],
)
def test_a_silence_fits_alerts_by_their_labels(matcher: Matcher, fits: bool) -> None:
    alert = ALERT_READER.decode(alert_json("a", 1, kind="layer_latency", instances=["bert-qa-0"]))
    assert silenced(alert, order("silence", matchers=[matcher])) is fits
    assert not silenced(alert, order("silence", service="other", matchers=[matcher]))
    assert silenced(alert, order("silence", service="*"))


def test_every_label_can_be_asked_of_every_alert() -> None:
    alert = ALERT_READER.decode(alert_json("a", 1))
    for name in LABELS:
        assert silenced(alert, order("silence", matchers=[Matcher(name, ".*", is_regex=True)]))


def test_a_silence_counts_while_it_holds() -> None:
    orders = Orders()
    orders.take(order("silence", matchers=[Matcher("severity", "warning")]))
    alert = ALERT_READER.decode(alert_json("a", 1, severity="warning"))
    assert orders.silencing(alert, NOW_S) == orders.get("o-1")
    assert orders.silencing(alert, NOW_S + 60) is None
    assert orders.silencing(msgspec.structs.replace(alert, severity="critical"), NOW_S) is None


def test_marks_are_kept_whatever_the_time_unless_taken_back() -> None:
    orders = Orders()
    orders.take(order("mark"))
    assert [o.id for o in orders.marks("bert-qa")] == ["o-1"]
    orders.take(order("mark", revision=2, ended_at=rfc3339(NOW_S + 1)))
    assert orders.marks("bert-qa") == []
