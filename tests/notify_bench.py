"""A notifier as a process, with stand-ins for the other sides, and replays of alerts to tell of."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from brokers import make_settings
from history_records import alert_json
from other_sides import ROUTING_KEY, SLACK_TOKEN, WEBHOOK_TOKEN, OtherSide, PagerDuty, Slack, Webhook
from stack import Service, read
from waiting import wait_until

from layerwatch.broker.local import LocalBroker
from layerwatch.hosting import kafka
from layerwatch.hosting.settings import Settings
from layerwatch.notify.incident import Notice, ServiceState
from layerwatch.notify.life import Rules, advance, hear
from layerwatch.schemas.alerts import ALERT_READER
from layerwatch.schemas.topics import ALERTS

GATHER_S, HOLD_S = 0.5, 5.0
SECRETS = (ROUTING_KEY, SLACK_TOKEN, WEBHOOK_TOKEN)


class Bench:
    """One notifier with three channels. Services are told apart by name, since tests share a broker."""

    def __init__(self, broker: LocalBroker, home: Path, name: str, **notify: Any) -> None:
        self.name = name
        self.pagerduty, self.slack, self.webhook = PagerDuty(), Slack(), Webhook()
        self.keys = {
            "pager": (home / "pager.key", ROUTING_KEY),
            "chat": (home / "chat.key", SLACK_TOKEN),
            "hook": (home / "hook.key", WEBHOOK_TOKEN),
        }
        for path, key in self.keys.values():
            path.write_text(key + "\n")
        services = home / "services.toml"
        services.write_text(f"""
            [defaults]
            channels = []
            [services.{name}]
            owner = "nlp"
            channels = ["pager", "chat", "hook"]
            [channels.pager]
            kind = "pagerduty"
            urls = ["{self.pagerduty.url}/v2/enqueue"]
            secret_file = "{self.keys["pager"][0]}"
            severity = "critical"
            [channels.chat]
            kind = "slack"
            urls = ["{self.slack.url}/api"]
            secret_file = "{self.keys["chat"][0]}"
            room = "#oncall"
            [channels.hook]
            kind = "webhook"
            urls = ["{self.webhook.url}/hook"]
            secret_file = "{self.keys["hook"][0]}"
        """)
        times = {"gather_s": GATHER_S, "hold_s": 1.0} | notify
        self.settings: Settings = make_settings(broker, home, services=str(services), notify=times)
        self.service = Service("notify", self.settings)

    @property
    def sides(self) -> list[OtherSide]:
        return [self.pagerduty, self.slack, self.webhook]

    def publish(self, topic: str, *values: bytes) -> None:
        sender = kafka.producer(self.settings, linger_ms=0)
        for value in values:
            sender.send(topic, value, self.name.encode()).get(30)
        kafka.abandon(sender)

    def alert(self, id: str = "a", revision: int = 1, **changes: Any) -> None:
        self.publish(ALERTS, alert_json(id, revision, time.time(), **({"service": self.name} | changes)))

    def told(self) -> list[tuple[str, str]]:
        """(notice, event) of what the webhook has taken, repeats too."""
        return [
            (heard.headers["idempotency-key"], heard.body["layerwatch"]["event"])
            for heard in self.webhook.taken
        ]

    def log(self) -> str:
        return self.service.log.read_text()


@contextmanager
def bench(broker: LocalBroker, home: Path, name: str, **notify: Any) -> Iterator[Bench]:
    made = Bench(broker, home, name, **notify)
    try:
        yield made
        assert not [secret for secret in SECRETS if secret in made.log()], "a secret is in the log"
    finally:
        for side in made.sides:
            side.close()


def expected(settings: Settings, service: str) -> list[Notice]:
    """What is to be told of a service, from what lies in the topic, by the pure core alone."""
    rules, state, made, at_s = Rules(GATHER_S, HOLD_S), ServiceState(), [], 0.0
    for record in read(settings, ALERTS):
        alert = ALERT_READER.decode(record.value or b"")
        if alert.service == service:
            at_s = record.timestamp / 1000
            state, notices = hear(state, alert, at_s, rules, lambda alert, at_s: False)
            made += notices
    return made + advance(state, service, at_s + 1000, rules, lambda alert, at_s: False)[1]


def story_of(chance: random.Random, number: int) -> list[tuple[float, dict[str, Any]]]:
    """Records of one trouble, (when, changes): it comes, may get worse, goes, may come back, and goes."""
    instance = {"instances": [f"node-{number}"]}
    records: list[tuple[float, dict[str, Any]]] = [(chance.uniform(0, 2), instance)]
    if chance.random() < 0.5:
        records.append((records[-1][0] + 0.1, {"severity": "critical"}))
    records.append(
        (records[-1][0] + chance.uniform(0.1, 0.4), {"status": "resolved", "severity": "critical"})
    )
    return records


def play(b: Bench, chance: random.Random) -> None:
    """Twelve alerts of three troubles within three seconds, each in revisions, in order of their times."""
    causes = ("gpu_contention", "pcie_contention", "load")
    records = [
        (at_s, f"{b.name}-{number}", revision, causes[number % 3], changes)
        for number in range(12)
        for revision, (at_s, changes) in enumerate(story_of(chance, number), 1)
    ]
    began_s = time.monotonic()
    sender = kafka.producer(b.settings, linger_ms=0)
    for at_s, id, revision, cause, changes in sorted(records, key=lambda record: record[0]):
        time.sleep(max(0.0, began_s + at_s - time.monotonic()))
        fields = {
            "service": b.name,
            "causes": [{"cause": cause, "confidence": 1, "evidence": "seen"}],
        } | changes
        sender.send(ALERTS, alert_json(id, revision, time.time(), **fields), b.name.encode()).get(30)
    kafka.abandon(sender)


def assert_told_as_by_an_unbroken_run(b: Bench) -> None:
    notices = expected(b.settings, b.name)
    assert {notice.incident for notice in notices if notice.event == "resolved"} == {
        n.incident for n in notices
    }
    wait_until(lambda: {n.id for n in notices} <= {id for id, _ in b.told()}, "the webhook has heard all")
    wait_until(lambda: len(b.pagerduty.resolved) == len(b.pagerduty.pages), "all pages are over")
    assert {id for id, _ in b.told()} == {n.id for n in notices}, "something else was told"
    critical = [n.incident for n in notices if n.event == "resolved" and n.severity == "critical"]
    assert sorted(b.pagerduty.pages) == sorted(critical), "paged twice, or not at all"
    assert sorted(b.pagerduty.resolved) == sorted(critical)


def kill_again_and_again(b: Bench, moments_s: Sequence[float]) -> None:
    """SIGKILL at each of these moments of a replay, and a start right after."""
    began_s = time.monotonic()
    for moment_s in moments_s:
        time.sleep(max(0.0, began_s + moment_s - time.monotonic()))
        b.service.kill()
        b.service.start()
