"""What is to be sent survives, in order, and all of a batch or nothing of it is written."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from history_records import START_S, alert_json

from layerwatch.hosting.log_source import Position
from layerwatch.hosting.services import Channel, Service, Services
from layerwatch.notify.channels import Directory
from layerwatch.notify.incident import Notice, ServiceState
from layerwatch.notify.outbox import FILE_NAME, Outbox
from layerwatch.notify.redaction import Redaction
from layerwatch.schemas.alerts import ALERT_READER
from layerwatch.schemas.errors import ConfigError


def notice(
    incident: str = "i-1", number: int = 1, event: Any = "firing", severity: str = "warning"
) -> Notice:
    return Notice(
        incident=incident,
        number=number,
        event=event,
        service="bert-qa",
        trouble="load",
        severity=severity,
        reached={severity: START_S},
        made_s=START_S,
        opened_s=START_S,
        quiet_since_s=None,
        flaps=0,
        alerts=[ALERT_READER.decode(alert_json())],
        decisions=[],
    )


@pytest.fixture
def outbox(tmp_path: Path) -> Outbox:
    return Outbox(tmp_path / FILE_NAME)


def queue(outbox: Outbox, *notices: Notice, lanes: tuple[str, ...] = ("pager",)) -> None:
    outbox.write({}, [(one, lanes) for one in notices], {}, START_S)


def test_letters_of_an_incident_arrive_in_order_and_one_that_waits_holds_up_no_other(outbox: Outbox) -> None:
    queue(outbox, notice("i-1", 1), notice("i-1", 2, "updated"), notice("i-2", 1))
    first = outbox.next_letter("pager", START_S)
    assert first is not None
    outbox.postpone(first, START_S + 60)
    other = outbox.next_letter("pager", START_S)
    assert other is not None
    assert other.notice.id == "i-2-1"
    outbox.sent(other, None, START_S)
    assert outbox.next_letter("pager", START_S) is None
    again = outbox.next_letter("pager", START_S + 60)
    assert again is not None
    assert (again.notice.id, again.rounds) == ("i-1-1", 1)
    outbox.sent(again, None, START_S + 60)
    last = outbox.next_letter("pager", START_S + 60)
    assert last is not None
    assert last.notice.id == "i-1-2"


def test_a_notice_is_queued_once_however_often_it_is_made(outbox: Outbox) -> None:
    queue(outbox, notice(), lanes=("pager", "chat"))
    queue(outbox, notice(), lanes=("pager", "chat"))
    assert {lane: count for lane, (count, _) in outbox.waiting().items()} == {"pager": 1, "chat": 1}


def test_a_receipt_lasts_until_the_end_of_its_incident(outbox: Outbox) -> None:
    queue(outbox, notice(), notice(number=2, event="resolved"))
    first = outbox.next_letter("pager", START_S)
    assert first is not None
    assert outbox.receipt(first) is None
    outbox.sent(first, "C1/17.5", START_S)
    end = outbox.next_letter("pager", START_S)
    assert end is not None
    assert outbox.receipt(end) == "C1/17.5"
    outbox.sent(end, "C1/17.5", START_S)
    assert outbox.receipt(end) is None


def test_what_nobody_takes_is_kept_with_the_reason(outbox: Outbox) -> None:
    queue(outbox, notice(), lanes=("pager", "gone"))
    letter = outbox.next_letter("pager", START_S)
    assert letter is not None
    outbox.bury(letter, "it answers 422", START_S)
    assert outbox.bury_strays(["pager"], "no longer configured", START_S) == 1
    assert outbox.dead() == {"pager": 1, "gone": 1}
    assert outbox.waiting() == {}


def test_a_batch_is_written_whole_or_not_at_all(outbox: Outbox) -> None:
    positions: Any = {("layerwatch.alerts", 0): Position("id", 7, 1), ("layerwatch.alerts", 1): "no position"}
    with pytest.raises(AttributeError):
        outbox.write({"bert-qa": ServiceState()}, [(notice(), ["pager"])], positions, START_S)
    assert outbox.states() == {}
    assert outbox.positions() == {}
    assert outbox.waiting() == {}
    assert outbox.current(0) == []


def test_all_is_there_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    first = Outbox(path)
    assert first.since_s(START_S) == START_S
    at = {("layerwatch.alerts", 0): Position("id", 7, 1)}
    first.write({"bert-qa": ServiceState(over={"a": 1.0})}, [(notice(), ["pager"])], at, START_S)
    first.close()
    second = Outbox(path)
    assert second.since_s(START_S + 99) == START_S
    assert second.states() == {"bert-qa": ServiceState(over={"a": 1.0})}
    assert second.positions() == at
    letter = second.next_letter("pager", START_S)
    assert letter is not None
    assert letter.notice == notice()


def test_what_fires_is_sent_again_and_what_is_over_for_a_while(outbox: Outbox) -> None:
    queue(outbox, notice("i-1"), notice("i-2"), notice("i-2", 2, "resolved"))
    assert {one.id for one in outbox.current(START_S - 1)} == {"i-1-1", "i-2-2"}
    assert {one.id for one in outbox.current(START_S)} == {"i-1-1"}


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text("not a database, although it is long enough to be looked at")
    with pytest.raises(ConfigError, match=FILE_NAME):
        Outbox(tmp_path / FILE_NAME)


def test_who_is_told_what(tmp_path: Path) -> None:
    channels = {
        "pager": Channel(kind="pagerduty", secret_env="KEY", severity="critical"),
        "peers": Channel(kind="alertmanager", urls=["http://a:9093", "http://b:9093"]),
    }
    own = {"bert-qa": Service(channels=["pager"]), "quiet": Service(channels=[])}
    directory = Directory(Services(services=own, channels=channels), "http://h", None, 60)
    assert directory.lanes_of(notice()) == []
    assert directory.lanes_of(notice(severity="critical")) == ["pager"]
    everyone = Directory(Services(channels=channels), "http://h", None, 60)
    assert everyone.lanes_of(notice()) == ["peers/a:9093", "peers/b:9093"]
    assert everyone.lanes_of(notice(severity="critical")) == ["pager", "peers/a:9093", "peers/b:9093"]


def test_each_address_of_a_channel_has_a_name_of_its_own_without_its_path() -> None:
    hook = Channel(kind="webhook", urls=["http://h/secret-1", "http://u:p@h/secret-2", "http://other"])
    directory = Directory(Services(channels={"hook": hook}), "http://h", None, 60)
    assert [lane.name for lane in directory.lanes()] == ["hook/h", "hook/h#2", "hook/other"]


def test_a_secret_is_in_no_log_line_nor_in_a_traceback(caplog: pytest.LogCaptureFixture) -> None:
    redaction, logger = Redaction(), logging.getLogger("test")
    redaction.learn("0123456789abcdef")
    redaction.learn("short")
    caplog.handler.addFilter(redaction)
    try:
        logger.error("key %s of %s", "0123456789abcdef", "short")
        try:
            raise ValueError("bad key 0123456789abcdef")
        except ValueError:
            logger.exception("failed")
    finally:
        caplog.handler.removeFilter(redaction)
    assert "0123456789abcdef" not in caplog.text
    assert "key *** of short" in caplog.text
    assert "ValueError: bad key ***" in caplog.text
