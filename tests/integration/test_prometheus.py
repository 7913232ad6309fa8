"""The notifier with a real Prometheus and a real Alertmanager on loopback (Debian's packages, fetched where they can be)."""

from __future__ import annotations

import json
import random
import re
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import dashboards
import pytest
import yaml
from brokers import CHECKOUT, free_port, make_settings
from debian import program, templates
from history_records import alert_json
from other_sides import OtherSide, Reply
from stack import Service, running
from waiting import wait_until

from layerwatch.broker.local import LocalBroker
from layerwatch.hosting import kafka, process
from layerwatch.hosting.settings import Settings
from layerwatch.schemas.topics import ALERTS

pytestmark = pytest.mark.kafka

PROCESSES = ("processor", "decision", "history", "notify", "scaler", "agent")
RULES = [
    CHECKOUT / "infra" / "prometheus" / name for name in ("layerwatch.rules.yaml", "services.rules.yaml")
]


class Neighbour:
    """A program with an HTTP API on loopback."""

    def __init__(self, argv: list[str], home: Path, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        with (home / f"{Path(argv[0]).name}.log").open("wb") as log:
            self._process: subprocess.Popen[bytes] = process.spawn(argv, cwd=home, output=log)

    def wait_ready(self) -> None:
        wait_until(self._ready, f"{self.url} is ready", 20)

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(self.url + path, timeout=5) as answer:
            return json.load(answer)

    def close(self) -> None:
        process.stop(self._process, 10)


@contextmanager
def alertmanager(home: Path, sink: OtherSide) -> Iterator[Neighbour]:
    """Groups by service and tells a webhook within seconds."""
    binary, port = program("prometheus-alertmanager"), free_port()
    for template in templates():
        shutil.copy(template, home)
    (home / "am.yml").write_text(
        f"""
route: {{receiver: sink, group_by: [service], group_wait: 2s, group_interval: 1s, repeat_interval: 4h,
  routes: [{{receiver: none, matchers: ["alertname = LayerwatchWatchdog"]}}]}}
receivers: [{{name: sink, webhook_configs: [{{url: "{sink.url}/am", send_resolved: true}}]}}, {{name: none}}]
"""
    )
    argv = [
        str(binary),
        "--config.file=am.yml",
        "--storage.path=am",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    made = Neighbour([*argv, "--cluster.listen-address="], home, port)
    try:
        made.wait_ready()
        yield made
    finally:
        made.close()


@contextmanager
def prometheus(home: Path, targets: dict[str, int]) -> Iterator[Neighbour]:
    """Scrapes our processes each second."""
    binary, port = program("prometheus"), free_port()
    jobs = [
        {"job_name": name, "static_configs": [{"targets": [f"127.0.0.1:{its_port}"]}]}
        for name, its_port in targets.items()
    ]
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "scrape_configs": jobs,
        "rule_files": [str(path) for path in RULES],
    }
    (home / "prom.yml").write_text(json.dumps(config))  # JSON is YAML
    argv = [str(binary), "--config.file=prom.yml", "--storage.tsdb.path=prom"]
    made = Neighbour([*argv, f"--web.listen-address=127.0.0.1:{port}"], home, port)
    try:
        made.wait_ready()
        yield made
    finally:
        made.close()


class Sink(OtherSide):
    """What an Alertmanager's webhook receiver gets."""

    def __init__(self) -> None:
        super().__init__(lambda path, headers, body: Reply(200, {}))

    def groups(self, status: str) -> list[set[str]]:
        """Names of the alerts with this status, by notification."""
        found = [
            {one["labels"]["alertname"] for one in heard.body["alerts"] if one["status"] == status}
            for heard in self.heard
        ]
        return [names for names in found if names]


def settings_for(broker: LocalBroker, home: Path, alertmanagers: list[str]) -> Settings:
    services = home / "services.toml"
    services.write_text(f'[channels.am]\nkind = "alertmanager"\nurls = {json.dumps(alertmanagers)}\n')
    # Alertmanager waits four times resend_s before it takes an alert for resolved: a slow restart of ours is shorter.
    times = {"gather_s": 0.5, "hold_s": 4.0, "resend_s": 10.0, "runbook_url": "https://wiki/runbook"}
    return make_settings(broker, home, services=str(services), notify=times)


def publish(settings: Settings, service: str, id: str, revision: int, cause: str, **changes: Any) -> None:
    sender = kafka.producer(settings, linger_ms=0)
    causes = [{"cause": cause, "confidence": 0.9, "evidence": "seen"}]
    value = alert_json(id, revision, time.time(), service=service, causes=causes, **changes)
    sender.send(ALERTS, value, service.encode()).get(30)
    kafka.abandon(sender)


def firing(manager: Neighbour, service: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = manager.get("/api/v2/alerts?active=true")
    return [alert for alert in found if alert["labels"].get("service") == service]


def test_alertmanager_gets_groups_and_resolves_an_alert_that_is_there_once_after_restarts_of_ours(
    fresh_kafka: LocalBroker, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        sink, spare = Sink(), Sink()
        for side in (sink, spare):
            stack.callback(side.close)
        for name in ("am", "peer"):
            (tmp_path / name).mkdir()
        manager = stack.enter_context(alertmanager(tmp_path / "am", sink))
        peer = stack.enter_context(alertmanager(tmp_path / "peer", spare))
        silent_peer = f"http://127.0.0.1:{free_port()}"  # a peer that is away holds up no other
        settings = settings_for(fresh_kafka, tmp_path, [manager.url, silent_peer, peer.url])
        service = Service("notify", settings)
        stack.enter_context(running(service))
        service.wait_ready()
        publish(settings, "am", "a", 1, "gpu_contention")
        publish(settings, "am", "b", 1, "host_starvation", instances=["bert-qa-1"])
        chance = random.Random(3)
        for _ in range(4):
            time.sleep(chance.uniform(0, 1.5))
            service.kill()
            service.start()
        wait_until(lambda: len(firing(manager, "am")) == 2, "both alerts are there")
        wait_until(lambda: len(firing(peer, "am")) == 2, "and at the other peer")
        first = {alert["fingerprint"]: alert["startsAt"] for alert in firing(manager, "am")}
        ends = {alert["endsAt"] for alert in firing(manager, "am")}
        service.kill()
        service.start()
        wait_until(
            lambda: not ends & {alert["endsAt"] for alert in firing(manager, "am")}, "they are sent again"
        )
        assert {alert["fingerprint"]: alert["startsAt"] for alert in firing(manager, "am")} == first
        alert = next(a for a in firing(manager, "am") if a["labels"]["trouble"] == "gpu_contention")
        assert alert["labels"]["alertname"] == "LayerwatchGpuContention"
        assert "Why: another process uses the GPU" in alert["annotations"]["description"]
        assert alert["annotations"]["runbook_url"] == "https://wiki/runbook"
        assert alert["generatorURL"].endswith("/v1/alerts/a")
        watchdog = "/api/v2/alerts?filter=" + urllib.parse.quote('alertname="LayerwatchWatchdog"')
        wait_until(lambda: len(manager.get(watchdog)) == 1, "the watchdog fires")
        names = {"LayerwatchGpuContention", "LayerwatchHostStarvation"}
        wait_until(lambda: names in sink.groups("firing"), "both in one notification")
        for id, cause in (("a", "gpu_contention"), ("b", "host_starvation")):
            publish(settings, "am", id, 2, cause, status="resolved")
        service.kill()
        service.start()
        for each in (manager, peer):
            wait_until(lambda each=each: firing(each, "am") == [], "both are resolved")  # type: ignore[misc]
        wait_until(lambda: set().union(*sink.groups("resolved")) == names, "people hear that they are")
        assert len([group for group in sink.groups("firing") if group == names]) == 1, "told twice"
        assert silent_peer.rpartition("/")[2] in service.health() or "channel_up" in "".join(
            service.metrics()
        )


def test_all_that_rules_and_dashboards_ask_for_is_exported_and_prometheus_understands_it(
    fresh_kafka: LocalBroker, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        settings = settings_for(fresh_kafka, tmp_path, [f"http://127.0.0.1:{free_port()}"])
        settings = settings.model_copy(
            update={"agent": settings.agent.model_copy(update={"folder": tmp_path / "shm"})}
        )
        services = [Service(name, settings) for name in PROCESSES]
        stack.enter_context(running(*services))
        for service in services:
            service.wait_ready()
        ports = {f"layerwatch-{s.name}": int(getattr(s.settings, s.name).http_port) for s in services}
        reader = stack.enter_context(prometheus(tmp_path, ports))

        def ask(query: str) -> list[Any]:
            answer = reader.get("/api/v1/query?query=" + urllib.parse.quote(query))
            found: list[Any] = answer["data"]["result"]
            return found

        def value(query: str) -> list[str]:
            return [one["value"][1] for one in ask(query)]

        wait_until(lambda: value("sum(up)") == [str(len(services))], "all are scraped")
        wait_until(
            lambda: value('layerwatch_notify_channel_up{channel="am"}') == ["0"], "a dead channel shows"
        )
        assert value("layerwatch_history_lag_records") == ["0"]
        # What is not there is absent, not zero.
        assert value("layerwatch_recommended_replicas") == []
        exported = {name for service in services for name in exported_by(service)}
        for name, expr in asked():
            used = set(re.findall(r"\blayerwatch_[a-z_]+", expr))
            assert used <= exported, f"{name} asks for what nobody exports: {used - exported}"
            ask(expr)  # an HTTP error unless it is PromQL
        rules = [rule for group in reader.get("/api/v1/rules")["data"]["groups"] for rule in group["rules"]]
        assert len(rules) == 16
        wait_until(lambda: not unwell(reader), "every rule is evaluated")
        wait_until(lambda: "LayerwatchPrometheusWatchdog" in names_firing(reader), "the watchdog fires")


def exported_by(service: Service) -> set[str]:
    """Names of the samples that a process exports, also of those without a value yet."""
    found = set()
    for line in service.metrics():
        if line.startswith("# TYPE layerwatch"):
            _, _, name, kind = line.split()
            suffixes = ("_bucket", "_sum", "_count") if kind == "histogram" else ("",)
            found |= {name + suffix for suffix in suffixes}
    return found


def asked() -> Iterator[tuple[str, str]]:
    """Every PromQL of the rules and dashboards, with its place."""
    for path in RULES:
        for group in yaml.safe_load(path.read_text())["groups"]:
            for rule in group["rules"]:
                yield rule["alert"], rule["expr"]
    for name, content in dashboards.built().items():
        for panel in json.loads(content)["panels"]:
            for target in panel["targets"]:
                expr = target["expr"].replace("$__rate_interval", "1m").replace("$service", ".*")
                yield f"{name}: {panel['title']}", expr


def unwell(reader: Neighbour) -> list[str]:
    groups = reader.get("/api/v1/rules")["data"]["groups"]
    return [rule["name"] for group in groups for rule in group["rules"] if rule["health"] != "ok"]


def names_firing(reader: Neighbour) -> set[str]:
    alerts = reader.get("/api/v1/alerts")["data"]["alerts"]
    return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}


def test_promtool_is_content_with_the_rules_and_each_fires_when_it_should() -> None:
    tool, folder = str(program("promtool")), CHECKOUT / "infra" / "prometheus"
    for command in (["check", "rules", *map(str, RULES)], ["test", "rules", "layerwatch.rules.test.yaml"]):
        done = subprocess.run([tool, *command], cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
