"""What is read at three in the morning, and what each channel makes of it."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from history_records import START_S, alert_json, decision_json

from layerwatch.notify import alertmanager, pagerduty, slack, webhook
from layerwatch.notify.incident import Notice
from layerwatch.notify.request import Answer, Later, Misconfigured, Refused, check, retry_after_s
from layerwatch.notify.story import Links, Story, tell
from layerwatch.schemas.alerts import ALERT_READER
from layerwatch.schemas.decisions import DECISION_READER
from layerwatch.schemas.times import rfc3339, unix_s

LINKS = Links("http://history:19310", "https://wiki/runbook", "nlp")


def notice(event: Any = "firing", **changes: Any) -> Notice:
    ended = rfc3339(START_S + 700) if event == "resolved" else None
    alerts = [
        ALERT_READER.decode(
            alert_json(severity="critical", instances=["bert-qa-1", "bert-qa-0"], closed_at=ended)
        ),
        ALERT_READER.decode(alert_json("b", instances=["bert-qa-2"])),
    ]
    fields: dict[str, Any] = {
        "incident": "i-1",
        "number": 2,
        "event": event,
        "service": "bert-qa",
        "trouble": "gpu_contention",
        "severity": "critical",
        "reached": {"warning": START_S, "critical": START_S + 10},
        "made_s": START_S + 15,
        "opened_s": START_S,
        "quiet_since_s": START_S + 700 if event == "resolved" else None,
        "flaps": 2 if event == "resolved" else 0,
        "alerts": alerts,
        "decisions": [DECISION_READER.decode(decision_json(mode="shadow"))],
    }
    return Notice(**(fields | changes))


def story(event: Any = "firing", **changes: Any) -> Story:
    return tell(notice(event, **changes), LINKS)


def test_it_says_what_where_since_when_which_layers_why_what_was_decided_and_where_to_look() -> None:
    assert story().text == (
        "CRITICAL bert-qa: attention of block 7 takes 4.5x its usual time\n"
        "Impact: p99 3.2 -> 14.1 ms (4.4x), p50 1.9x, 410 of 812 executions slower\n"
        "Where: 3 instances: bert-qa-0, bert-qa-1, bert-qa-2; host gpu-17, GPU-1\n"
        "Since: 2026-11-22 09:59:58 UTC\n"
        "Layers: blocks.7/attn 0.015 -> 0.067 ms (4.5x)\n"
        "Why: another process uses the GPU (86% sure): SM utilisation 34 -> 97 %\n"
        "Decided: scale_out, replicas 6 (shadow: only recorded, nobody obeys)\n"
        "Owner: nlp\n"
        "Look: http://history:19310/v1/alerts/a or `layerwatch alerts a`\n"
        "Runbook: https://wiki/runbook"
    )


def test_the_end_says_how_long_it_was_and_how_often_it_came_back() -> None:
    facts = dict(story("resolved").facts)
    assert story("resolved").title.startswith("RESOLVED bert-qa: ")
    assert facts["Since"] == (
        "2026-11-22 09:59:58 UTC, until 2026-11-22 10:11:40 UTC (0:11:42); came back 2 times"
    )


def test_it_says_how_much_of_the_fleet_and_what_came_of_what_was_decided() -> None:
    came = {"verdict": "confirmed", "said": "p99 1.1x after 40 s", "judged_at": rfc3339(START_S)}
    decided = [DECISION_READER.decode(decision_json(mode="enforce", status="withdrawn", outcome=came))]
    alerts = [ALERT_READER.decode(alert_json(fleet=12))]
    facts = dict(tell(notice(alerts=alerts, decisions=decided), LINKS).facts)
    assert facts["Where"] == "1 of 12 instances: bert-qa-0; host gpu-17, GPU-1"
    assert facts["Decided"] == "scale_out, replicas 6, withdrawn (enforced), confirmed: p99 1.1x after 40 s"


def test_what_is_not_known_is_left_out_and_long_things_are_cut() -> None:
    alert = ALERT_READER.decode(alert_json(summary="x" * 500, layers=[], causes=[], host="", gpu=""))
    told = tell(notice(alerts=[alert], decisions=[]), Links("http://h"))
    facts = dict(told.facts)
    assert len(told.title) == 200
    assert "Layers" not in facts
    assert "Owner" not in facts
    assert "Runbook" not in facts
    assert facts["Why"] == "not known"
    assert facts["Decided"] == "nothing"
    assert facts["Where"] == "bert-qa-0"


def test_an_alert_says_where_its_own_page_and_runbook_are() -> None:
    alert = ALERT_READER.decode(alert_json(history_url="https://lw/alerts/a", runbook_url="https://own"))
    told = tell(notice(alerts=[alert]), LINKS)
    assert (told.page_url, told.runbook_url) == ("https://lw/alerts/a", "https://own")


def test_alertmanager_gets_one_alert_that_fires_and_the_milder_one_ended() -> None:
    fires, milder = alertmanager.alerts(notice(), story(), "nlp", START_S + 20, 60)
    assert fires["labels"] == {
        "alertname": "LayerwatchGpuContention",
        "service": "bert-qa",
        "severity": "critical",
        "trouble": "gpu_contention",
        "owner": "nlp",
    }
    assert unix_s(fires["startsAt"]) == START_S - 2
    assert unix_s(fires["endsAt"]) == START_S + 20 + 240
    assert milder["labels"] == fires["labels"] | {"severity": "warning"}
    assert unix_s(milder["endsAt"]) == START_S + 10
    ended, _ = alertmanager.alerts(notice("resolved"), story("resolved"), "nlp", START_S + 1000, 60)
    assert unix_s(ended["endsAt"]) == START_S + 700


def test_labels_of_alertmanager_do_not_change_with_time_instances_or_decisions() -> None:
    other = notice(alerts=notice().alerts[1:], decisions=[], number=7, made_s=START_S + 99)
    assert alertmanager.labels(notice(), "nlp", "critical") == alertmanager.labels(other, "nlp", "critical")


def test_pagerduty_knows_the_incident_by_one_key() -> None:
    trigger = pagerduty.request(pagerduty.URL, "key", notice(), story()).body
    resolve = pagerduty.request(pagerduty.URL, "key", notice("resolved"), story("resolved")).body
    assert trigger["dedup_key"] == resolve["dedup_key"] == "i-1"
    assert trigger["payload"]["severity"] == "critical"
    assert trigger["payload"]["custom_details"]["Why"].startswith("another process uses the GPU")
    assert resolve == {"routing_key": "key", "dedup_key": "i-1", "event_action": "resolve"}


def test_slack_edits_its_message_and_says_loud_things_in_the_thread() -> None:
    first = slack.requests(slack.URL, "t", "#oncall", notice(), story(), None)
    assert [request.url.rpartition("/")[2] for request in first] == ["chat.postMessage"]
    mild = slack.requests(
        slack.URL, "t", "#oncall", notice("updated", severity="warning"), story(), "C1/17.5"
    )
    assert [request.url.rpartition("/")[2] for request in mild] == ["chat.update"]
    edit, reply = slack.requests(slack.URL, "t", "#oncall", notice("resolved"), story("resolved"), "C1/17.5")
    assert (edit.body["channel"], edit.body["ts"]) == ("C1", "17.5")
    assert ":white_check_mark:" in edit.body["blocks"][0]["text"]["text"]
    assert reply.body["thread_ts"] == "17.5"


def test_slack_is_not_fooled_by_markup_in_a_layers_name() -> None:
    alert = ALERT_READER.decode(alert_json(summary="<!channel> & co"))
    (request,) = slack.requests(
        slack.URL, "t", "#oncall", notice(alerts=[alert]), tell(notice(alerts=[alert]), LINKS), None
    )
    assert request.body["text"] == "CRITICAL bert-qa: &lt;!channel&gt; &amp; co"


def test_a_webhook_gets_what_alertmanager_sends_and_all_that_we_know() -> None:
    request = webhook.request("http://h", "token", "ops", "nlp", notice(), story())
    assert request.headers == {"Idempotency-Key": "i-1-2", "Authorization": "Bearer token"}
    assert request.body["status"] == "firing"
    assert request.body["alerts"][0]["endsAt"] == "0001-01-01T00:00:00Z"
    assert [alert["id"] for alert in request.body["layerwatch"]["alerts"]] == ["a", "b"]
    assert webhook.request("http://h", None, "ops", "", notice("resolved"), story("resolved")).body[
        "status"
    ] == ("resolved")


def answer(status: int, json: Any = None, text: str = "", **headers: str) -> Answer:
    return Answer(status, {name.replace("_", "-"): value for name, value in headers.items()}, text, json)


@pytest.mark.parametrize(
    ("status", "means"),
    [(429, Later), (500, Later), (503, Later), (408, Later), (401, Misconfigured), (403, Misconfigured),
     (404, Misconfigured), (302, Misconfigured), (599, Later), (400, Refused), (413, Refused), (422, Refused)],
)  # fmt: skip
def test_what_a_status_means(status: int, means: type[Exception]) -> None:
    with pytest.raises(means, match=str(status)):
        check(answer(status))


def test_patience_is_what_the_other_side_asks_for() -> None:
    with pytest.raises(Later) as raised:
        check(answer(429, retry_after="17"))
    assert raised.value.after_s == 17
    assert retry_after_s({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}) == 0
    assert retry_after_s({"retry-after": "soon"}) is None
    assert retry_after_s({"retry-after": "999999"}) == 900
    assert retry_after_s({}) is None


def test_a_wrong_key_of_pagerduty_is_told_from_a_bad_event() -> None:
    with pytest.raises(Misconfigured):
        pagerduty.judge(answer(400, text='{"errors":["Length of \'routing_key\' is incorrect"]}'))
    with pytest.raises(Refused):
        pagerduty.judge(answer(400, text='{"errors":["\'payload.summary\' is missing or blank"]}'))


@pytest.mark.parametrize(
    ("error", "means"),
    [("invalid_auth", Misconfigured), ("channel_not_found", Misconfigured), ("ratelimited", Later),
     ("internal_error", Later), ("invalid_blocks", Refused)],
)  # fmt: skip
def test_what_slack_says_in_a_200(error: str, means: type[Exception]) -> None:
    with pytest.raises(means, match=error):
        slack.judge(answer(200, {"ok": False, "error": error}))
    slack.judge(answer(200, {"ok": True}))
    slack.judge(answer(200, {"ok": False, "error": "message_not_found"}))  # nothing is left to be marked
    with pytest.raises(Misconfigured):
        slack.judge(answer(200, None))


def test_a_story_holds_no_more_than_slack_takes() -> None:
    long = dataclasses.replace(story(), facts=[("Why", "y" * 9000)])
    (request,) = slack.requests(slack.URL, "t", "#oncall", notice(), long, None)
    assert len(request.body["blocks"][1]["text"]["text"]) <= 3000
