"""Orders of people: through Kafka to every process, and over loopback where there is none."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
from history_records import alert_json
from stack import Service, decisions, patient_settings, read, running
from waiting import wait_until

from layerwatch.broker.local import LocalBroker
from layerwatch.hosting import kafka, topics
from layerwatch.hosting.environment import environment
from layerwatch.hosting.settings import Settings
from layerwatch.schemas.audit import AUDIT_READER
from layerwatch.schemas.decisions import Decision
from layerwatch.schemas.json import load
from layerwatch.schemas.topics import ALERTS, AUDIT, OPERATIONS

pytestmark = pytest.mark.kafka

SOON_S = 20.0  # for a slow machine: the decision centre obeys within two


def say(settings: Settings, *words: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "layerwatch.cli.main", *words]
    return subprocess.run(argv, env=environment(settings), capture_output=True, text=True, check=False)


def ordered(settings: Settings, *words: str) -> dict[str, Any]:
    done = say(settings, *words, "--json", "--author", "me")
    assert done.returncode == 0, done.stderr
    order: dict[str, Any] = json.loads(done.stdout)
    return order


def tell_alert(settings: Settings, service: str, id: str = "a", revision: int = 1, **changes: Any) -> None:
    producer = kafka.producer(settings)
    value = alert_json(id, revision, service=service, **changes)
    producer.send(ALERTS, value, service.encode()).get(10)
    kafka.abandon(producer)


def last(settings: Settings, service: str) -> Decision | None:
    found = decisions(settings, service)
    return found[-1] if found else None


@pytest.fixture
def centre(fresh_kafka: LocalBroker, tmp_path: Path) -> Iterator[Service]:
    service = Service("decision", patient_settings(fresh_kafka, tmp_path, decision={"mode": "enforce"}))
    with running(service):
        yield service.wait_ready()


def test_an_override_holds_on_a_service_that_no_alert_was_heard_of_until_it_is_ended(centre: Service) -> None:
    settings = centre.settings
    order = ordered(settings, "override", "quiet", "failover", "--for", "1h", "--engine", "v1")
    wait_until(lambda: last(settings, "quiet"), "the override is a decision", SOON_S)
    decision = decisions(settings, "quiet")[0]
    assert (decision.action, decision.mode, decision.order) == ("failover", "enforce", order["id"])
    assert decision.parameters == {"engine": "v1"}
    listed = say(settings, "orders", "--service", "quiet", "--json").stdout.splitlines()
    assert [json.loads(line)["id"] for line in listed] == [order["id"]]
    assert say(settings, "orders", "--end", order["id"]).returncode == 0
    wait_until(lambda: decisions(settings, "quiet")[-1].status == "withdrawn", "it has ended", SOON_S)


def test_a_kill_ends_what_holds_for_one_service_and_is_taken_back(centre: Service) -> None:
    settings = centre.settings
    for service in ("hit", "spared"):
        tell_alert(settings, service)
        wait_until(partial(last, settings, service), "a decision holds", SOON_S)
    ordered(settings, "kill", "hit", "--reason", "wrong signal")
    wait_until(lambda: decisions(settings, "hit")[-1].status == "withdrawn", "the kill is obeyed", SOON_S)
    ended = decisions(settings, "hit")[-1]
    assert ended.ended_because is not None
    assert "wrong signal" in ended.ended_because
    tell_alert(settings, "hit", "b")
    tell_alert(settings, "spared", revision=2, severity="critical")
    assert decisions(settings, "spared")[-1].status == "active"
    ordered(settings, "kill", "hit", "--resume")
    wait_until(lambda: decisions(settings, "hit")[-1].status == "active", "decisions are on again", SOON_S)
    said = [AUDIT_READER.decode(r.value or b"") for r in read(settings, AUDIT) if r.key == b"hit"]
    assert [entry.what for entry in said] == ["issued", "killed", "ended", "resumed", "issued"]
    assert [entry.number for entry in said] == [1, 2, 3, 4, 5]


def test_every_order_on_the_topic_is_valid_and_a_cloud_event(
    fresh_kafka: LocalBroker, tmp_path: Path
) -> None:
    settings = patient_settings(fresh_kafka, tmp_path)
    given = [
        ordered(
            settings,
            "silence",
            "s",
            "--for",
            "2h",
            "--match",
            "kind=layer_latency",
            "--match",
            "host!~gpu-1.*",
        ),
        ordered(settings, "mark", "s", "engine", "--engine", "sha256:2", "--version", "v2", "--at", "5m"),
        ordered(settings, "override", "s", "none", "--for", "30m", "--instance", "s-0"),
        ordered(settings, "kill", "s"),
        ordered(settings, "kill", "s", "--resume"),
    ]
    validator = jsonschema.Draft202012Validator(load("operation"), format_checker=jsonschema.FormatChecker())
    found = [
        record
        for record in read(settings, OPERATIONS)
        if msgspec.json.decode(record.value or b"")["service"] == "s"
    ]
    assert [msgspec.json.decode(record.value or b"") for record in found] == given
    for record, order in zip(found, given, strict=True):
        validator.validate(order)
        headers = dict(record.headers)
        assert headers["ce_type"] == b"layerwatch.operation.v1"
        assert (record.key, headers["ce_id"]) == (
            order["id"].encode(),
            f"{order['id']}-{order['revision']}".encode(),
        )


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["silence", "--for", "1h"], "name a SERVICE, or say --all"),
        (["silence", "s", "--for", "soon"], "write 90s, 30m, 2h or 3d"),
        (["silence", "s", "--for", "1h", "--match", "color=red"], "LABEL one of id, kind"),
        (["silence", "s", "--for", "1h", "--match", "host=~("], "no regular expression"),
        (["orders", "--end", "nowhere"], "`layerwatch orders` lists them"),
        (["kill"], "name a SERVICE, or say --all"),
    ],
)
def test_an_order_that_nobody_could_follow_is_refused(
    settings: Settings, words: list[str], says: str
) -> None:
    done = say(settings, *words)
    assert done.returncode != 0
    assert says in done.stderr


def test_a_kill_is_obeyed_with_kafka_down_and_told_when_it_is_back(
    own_broker: LocalBroker, tmp_path: Path
) -> None:
    settings = patient_settings(own_broker, tmp_path, decision={"mode": "enforce"})
    topics.ensure(settings)
    centre = Service("decision", settings)
    holds = 'layerwatch_decision_active{action="scale_out",mode="enforce",service="bert-qa"}'
    with running(centre):
        centre.wait_ready()
        tell_alert(settings, "bert-qa")
        wait_until(lambda: centre.metric(holds) == 1, "a decision holds", SOON_S)
        own_broker.kill()
        done = say(centre.settings, "kill", "--all", "--reason", "incident 7")
        assert done.returncode == 1
        assert "off on this machine; others do not know of it" in done.stderr
        wait_until(lambda: centre.metric(holds) == 0, "the kill is obeyed", SOON_S)
        own_broker.start()
        # A broker that has just come back may answer that there is nothing yet.
        wait_until(
            lambda: [d.status for d in decisions(settings, "bert-qa")][-1:] == ["withdrawn"], "it is told", 60
        )
        assert centre.running
    with running(centre):
        centre.wait_ready()
        tell_alert(settings, "bert-qa", "later")
        tell_alert(settings, "other", "later")
        wait_until(
            lambda: centre.metric('layerwatch_records_total{operator="decisions"}') >= 2, "both are heard", 60
        )
        assert decisions(settings, "other") == []
        assert decisions(settings, "bert-qa")[-1].status == "withdrawn", "a restart forgets no kill"


def test_the_kill_switch_answers_over_loopback(centre: Service) -> None:
    def ask(method: str, path: str, body: bytes | None = None) -> Any:
        port = centre.settings.decision.http_port
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", method=method, data=body)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    assert ask("PUT", "/v1/kill/a%2Fb", b'{"reason": "test"}')["killed"] is True
    assert ask("GET", "/v1/orders")["killed_here"] == {"a/b": "test"}
    assert ask("DELETE", "/v1/kill/a%2Fb")["was_killed"] is True
    assert ask("GET", "/v1/orders")["killed_here"] == {}
    for method, body, status in (("PUT", b"{", 400), ("POST", b"{}", 405)):
        with pytest.raises(urllib.error.HTTPError) as refused:
            ask(method, "/v1/kill/s", body)
        assert refused.value.code == status
