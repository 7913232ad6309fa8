"""The notifier as a process, between a real Kafka and real HTTP servers that hold to the channels' contracts."""

from __future__ import annotations

import random
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from history_records import decision_json
from msgspec.structs import replace
from notify_bench import HOLD_S, assert_told_as_by_an_unbroken_run, bench, kill_again_and_again, play
from other_sides import Reply
from stack import running
from waiting import wait_until

from layerwatch.broker.local import LocalBroker
from layerwatch.notify.outbox import FILE_NAME
from layerwatch.schemas.codec import encode_json
from layerwatch.schemas.operations import Operation
from layerwatch.schemas.times import rfc3339, unix_s
from layerwatch.schemas.topics import DECISIONS, OPERATIONS

pytestmark = pytest.mark.kafka


def test_it_tells_each_channel_in_its_own_way_and_tells_the_end(
    fresh_kafka: LocalBroker, tmp_path: Path
) -> None:
    with bench(fresh_kafka, tmp_path, "told") as b, running(b.service):
        b.service.wait_ready()
        b.alert()
        target = {"service": "told", "instance": "*", "domain": "capacity"}
        decision = decision_json(issued_s=time.time(), target=target)
        b.publish(DECISIONS, decision)
        wait_until(lambda: b.slack.messages, "Slack hears of a warning")
        assert b.pagerduty.heard == [], "a warning pages nobody"
        b.alert(revision=2, severity="critical", instances=["told-0", "told-1"])
        wait_until(lambda: b.pagerduty.pages, "PagerDuty hears when it gets critical")
        details = b.pagerduty.taken[0].body["payload"]["custom_details"]
        assert details["Decided"] == "scale_out, replicas 6 (advice to people, no machine obeys)"
        assert details["Where"].startswith("2 instances: told-0, told-1")
        assert details["Owner"] == "nlp"
        b.alert(revision=3, severity="critical", status="resolved")
        wait_until(lambda: b.pagerduty.resolved == b.pagerduty.pages, "PagerDuty hears the end")
        (ts,) = b.slack.messages
        wait_until(lambda: "RESOLVED" in b.slack.messages[ts]["text"], "Slack's message is marked")
        wait_until(lambda: len(b.told()) == 3, "the webhook hears all")
        assert [event for _, event in b.told()] == ["firing", "updated", "resolved"]
        wait_until(lambda: len(b.slack.threads[ts]) == 2, "its thread tells what got worse, and the end")
        assert b.service.metric('layerwatch_notify_sent_total{channel="pager",event="updated"}') == 1


def test_it_comes_through_faults_of_the_other_side_in_order_and_once(
    fresh_kafka: LocalBroker, tmp_path: Path
) -> None:
    patient = Reply(429, {"ok": False, "error": "ratelimited"}, {"Retry-After": "1"})
    never = Reply(500, {}, after_s=11)  # longer than anybody waits
    with bench(fresh_kafka, tmp_path, "faulty") as b, running(b.service):
        for side in b.sides:
            side.faults = [patient, Reply(500, "oops"), never]
        b.service.wait_ready()
        b.alert(severity="critical")
        wait_until(lambda: all(side.faults == [] for side in b.sides), "all faults are met")
        b.alert(revision=2, severity="critical", status="resolved")
        wait_until(lambda: len(b.told()) == 2 and b.pagerduty.resolved and b.slack.threads, "all is told")
        assert [event for _, event in b.told()] == ["firing", "resolved"]
        assert len(b.pagerduty.pages) == len(b.slack.messages) == 1
        for side in b.sides:
            assert [heard.reply.status for heard in side.heard][:4] in (
                [429, 500, 500, 200],
                [429, 500, 500, 202],
            )
        assert b.service.metric('layerwatch_notify_failed_total{channel="pager",reason="later"}') == 3


def test_a_request_for_patience_is_respected(fresh_kafka: LocalBroker, tmp_path: Path) -> None:
    with bench(fresh_kafka, tmp_path, "patient") as b, running(b.service):
        b.webhook.faults = [Reply(429, {}, {"Retry-After": "4"})]
        b.service.wait_ready()
        b.alert()
        wait_until(lambda: len(b.webhook.heard) == 1, "the first try")
        asked_s = time.monotonic()
        wait_until(lambda: len(b.webhook.heard) == 2, "the second try")
        assert time.monotonic() - asked_s >= 3.5


def test_a_wrong_key_is_seen_at_once_and_mended_without_a_restart(
    fresh_kafka: LocalBroker, tmp_path: Path
) -> None:
    with bench(fresh_kafka, tmp_path, "locked") as b:
        for path, _ in b.keys.values():
            path.write_text("not-the-right-key-at-all")
        with running(b.service):
            b.service.wait_ready()
            b.alert(severity="critical")
            wait_until(
                lambda: all(
                    b.service.metric(f'layerwatch_notify_channel_up{{channel="{name}"}}') == 0
                    for name in b.keys
                ),
                "all channels are seen to be dead",
            )
            health = b.service.health()
            assert "channel pager" in health
            assert "PagerDuty does not know the routing key" in health
            assert "Slack says invalid_auth" in health
            assert "it answers 401" in health
            assert "not-the-right-key-at-all" not in health + b.log()
            for path, key in b.keys.values():
                path.write_text(key)
            wait_until(lambda: b.pagerduty.pages and b.slack.messages and b.told(), "all is told", 90)
            wait_until(lambda: b.service.health() == "ok", "it is well again")


def test_what_nobody_takes_is_a_dead_letter_and_holds_up_nothing(
    fresh_kafka: LocalBroker, tmp_path: Path
) -> None:
    with bench(fresh_kafka, tmp_path, "refused") as b, running(b.service):
        b.webhook.faults = [Reply(422, {"error": "no"})]
        b.service.wait_ready()
        b.alert()
        wait_until(
            lambda: b.service.metric('layerwatch_notify_dead_letters{channel="hook"}') == 1, "it is counted"
        )
        b.alert(revision=2, status="resolved")
        wait_until(lambda: [event for _, event in b.told()] == ["resolved"], "what follows is told")
        assert b.service.health() == "ok"


def test_a_silence_holds(fresh_kafka: LocalBroker, tmp_path: Path) -> None:
    now_s = time.time()
    silence = Operation(
        id="s-quiet",
        kind="silence",
        service="quiet",
        issued_at=rfc3339(now_s - 1),
        expires_at=rfc3339(now_s + 3600),
    )
    with bench(fresh_kafka, tmp_path, "quiet") as b:
        b.publish(OPERATIONS, encode_json(silence))
        with running(b.service):
            b.service.wait_ready()
            b.alert(severity="critical")
            wait_until(lambda: b.service.metric("layerwatch_notify_incidents") >= 1, "the incident is known")
            ended = replace(silence, revision=2, ended_at=rfc3339(time.time() + 4))
            b.publish(OPERATIONS, encode_json(ended))
            wait_until(lambda: b.pagerduty.pages, "told when the silence was taken back")
            assert time.time() >= unix_s(ended.ended_at or "")


def test_killed_at_random_moments_it_ends_as_an_unbroken_run_and_nobody_is_paged_twice(
    fresh_kafka: LocalBroker, tmp_path: Path
) -> None:
    chance = random.Random(7)
    with (
        bench(fresh_kafka, tmp_path, "killed", hold_s=HOLD_S) as b,
        running(b.service),
        ThreadPoolExecutor() as pool,
    ):
        b.service.wait_ready()
        playing = pool.submit(play, b, chance)
        kill_again_and_again(b, sorted(chance.uniform(0, 8) for _ in range(3)))
        playing.result()
        assert_told_as_by_an_unbroken_run(b)


def test_killed_between_the_other_sides_deed_and_its_answer_it_tells_again_and_nobody_is_paged_twice(
    fresh_kafka: LocalBroker, tmp_path: Path
) -> None:
    with bench(fresh_kafka, tmp_path, "between") as b, running(b.service):
        b.service.wait_ready()
        b.pagerduty.slow_s = b.webhook.slow_s = 5
        b.alert(severity="critical")
        wait_until(lambda: b.pagerduty.heard and b.webhook.heard, "both have done it, and have not said so")
        b.service.kill()
        b.pagerduty.slow_s = b.webhook.slow_s = 0
        b.service.start()
        wait_until(lambda: len(b.pagerduty.heard) == len(b.webhook.heard) == 2, "both are told again")
        b.alert(revision=2, severity="critical", status="resolved")
        wait_until(lambda: b.pagerduty.resolved, "the end")
        assert len(b.pagerduty.pages) == len(b.pagerduty.resolved) == 1
        assert len({heard.headers["idempotency-key"] for heard in b.webhook.heard[:2]}) == 1


def test_on_an_empty_disk_it_tells_what_still_fires_by_the_same_key_and_nothing_that_was_over(
    fresh_kafka: LocalBroker, tmp_path: Path
) -> None:
    with bench(fresh_kafka, tmp_path, "wiped") as b, running(b.service):
        b.service.wait_ready()
        b.alert(severity="critical", causes=[{"cause": "load", "confidence": 1, "evidence": "seen"}])
        wait_until(lambda: b.pagerduty.pages, "the first is told")
        b.alert(revision=2, severity="critical", status="resolved")
        wait_until(lambda: b.pagerduty.resolved, "and its end")
        b.alert(id="b", severity="critical")
        wait_until(lambda: len(b.pagerduty.pages) == 2, "the second is told")
        heard = len(b.pagerduty.heard)
        b.service.kill()
        for path in b.settings.state_dir.glob(f"{FILE_NAME}*"):
            path.unlink()
        b.service.start()
        wait_until(lambda: len(b.pagerduty.heard) > heard, "what fires is told again")
        b.alert(id="b", revision=2, severity="critical", status="resolved")
        wait_until(lambda: len(b.pagerduty.resolved) == 2, "its end is told")
        assert len(b.pagerduty.heard) == heard + 2
        assert len(b.pagerduty.pages) == 2
