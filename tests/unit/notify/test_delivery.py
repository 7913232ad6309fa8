"""One notice that cannot be told holds up no other, and without its outbox a lane does not pretend to go on."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from history_records import START_S, alert_json
from other_sides import WEBHOOK_TOKEN, Webhook
from waiting import wait_until

from layerwatch.hosting.services import Channel, Services
from layerwatch.notify.channels import Directory
from layerwatch.notify.delivery import Delivery
from layerwatch.notify.incident import Notice
from layerwatch.notify.metrics import Metrics
from layerwatch.notify.outbox import FILE_NAME, Outbox
from layerwatch.notify.redaction import Redaction
from layerwatch.schemas.alerts import ALERT_READER, Alert


def notice(incident: str, alerts: list[Alert]) -> Notice:
    return Notice(
        incident=incident,
        number=1,
        event="firing",
        service="bert-qa",
        trouble="load",
        severity="warning",
        reached={"warning": START_S},
        made_s=START_S,
        opened_s=START_S,
        quiet_since_s=None,
        flaps=0,
        alerts=alerts,
        decisions=[],
    )


class Lane:
    """One webhook's lane with all that it needs."""

    def __init__(self, home: Path, side: Webhook) -> None:
        (home / "key").write_text(WEBHOOK_TOKEN)
        hook = Channel(kind="webhook", urls=[side.url], secret_file=home / "key")
        directory = Directory(Services(channels={"hook": hook}), "http://h", None, 60)
        self.outbox, self.metrics, self.ended = Outbox(home / FILE_NAME), Metrics(["hook"]), threading.Event()
        self.delivery = Delivery(
            directory.lanes()[0],
            directory,
            self.outbox,
            self.metrics,
            Redaction(),
            lambda: True,
            self.ended.set,
        )

    def queue(self, *notices: Notice) -> None:

        self.outbox.write({}, [(one, ["hook"]) for one in notices], {}, time.time())
        self.delivery.wake()


@pytest.fixture
def side() -> Iterator[Webhook]:
    made = Webhook()
    yield made
    made.close()


def test_a_notice_that_cannot_be_put_into_words_is_a_dead_letter_and_the_next_one_arrives(
    tmp_path: Path, side: Webhook
) -> None:
    lane = Lane(tmp_path, side)
    lane.queue(notice("i-bad", []), notice("i-good", [ALERT_READER.decode(alert_json())]))
    lane.delivery.start()
    wait_until(lambda: [heard.body["groupKey"] for heard in side.taken] == ["i-good"], "the good one arrives")
    assert lane.outbox.dead() == {"hook": 1}
    assert lane.delivery.problem() is None


def test_without_its_outbox_a_lane_ends_and_says_so(tmp_path: Path, side: Webhook) -> None:
    lane = Lane(tmp_path, side)
    lane.delivery.start()
    assert lane.delivery.going
    lane.outbox.close()
    lane.delivery.wake()
    assert lane.ended.wait(30)
    wait_until(lambda: not lane.delivery.going, "its thread has ended")
    assert "see the log" in (lane.delivery.problem() or "")
