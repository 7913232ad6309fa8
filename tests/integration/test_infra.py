"""Chart and compose file: valid for the programs that read them, and true to our settings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from brokers import CHECKOUT
from debian import program
from infra_tools import docker_compose, helm, kubernetes_validate, run

from layerwatch.hosting.services import load_services
from layerwatch.hosting.settings import CONFIG_VARIABLE, KafkaSettings, Settings, describe, variable

INFRA = CHECKOUT / "infra"
CHART = INFRA / "helm" / "layerwatch"
COMPOSE = INFRA / "compose"

MINIMAL = ["--set", "kafka.bootstrap=kafka:9092"]
#: Everything on, TLS in both directions, and a password.
FULL = {
    "kafka": {
        "bootstrap": "kafka-0:9093,kafka-1:9093",
        "security": "SASL_SSL",
        "username": "layerwatch",
        "passwordSecret": {"name": "kafka-user", "key": "password"},
        "caSecret": {"name": "kafka-ca", "key": "ca.crt"},
        "clientCertSecret": "kafka-client",
    },
    "services": '[channels.pager]\nkind = "pagerduty"\nsecret_file = "/run/secrets/layerwatch/pagerduty/key"\n',
    "channelSecrets": ["pagerduty"],
    "notify": {"enabled": True},
    "scaler": {"enabled": True},
    "podMonitor": {"enabled": True},
    "prometheusRule": {"enabled": True, "services": True},
    "dashboards": {"enabled": True},
    "settings": {"LAYERWATCH_PROCESSOR__SILENCE_S": "30"},
}


def rendered(tmp_path: Path, *arguments: str) -> list[dict[str, Any]]:
    text = run(helm(), "template", "lw", str(CHART), "--kube-version", "1.31", *arguments)
    (tmp_path / "rendered.yaml").write_text(text)
    return [document for document in yaml.safe_load_all(text) if document]


def full(tmp_path: Path) -> list[str]:
    (tmp_path / "values.yaml").write_text(yaml.safe_dump(FULL))
    return ["--values", str(tmp_path / "values.yaml")]


@pytest.mark.parametrize("values", ["minimal", "full"])
def test_what_helm_renders_is_what_kubernetes_takes(tmp_path: Path, values: str) -> None:
    validate, arguments = kubernetes_validate(), MINIMAL if values == "minimal" else full(tmp_path)
    run(helm(), "lint", "--strict", str(CHART), *arguments)
    documents = rendered(tmp_path, *arguments)
    assert len(documents) == (9 if values == "minimal" else 17)
    plain = [document for document in documents if "coreos.com" not in document["apiVersion"]]
    (tmp_path / "plain.yaml").write_text(yaml.safe_dump_all(plain))
    run(validate, "--kubernetes-version", "1.31", "--strict", str(tmp_path / "plain.yaml"))
    names = [(document["kind"], document["metadata"]["name"]) for document in documents]
    assert len(set(names)) == len(names)


def test_kafkas_secrets_are_mounted_where_the_settings_look(tmp_path: Path) -> None:
    for document in rendered(tmp_path, *full(tmp_path)):
        for container in containers(document):
            env = {entry["name"]: entry["value"] for entry in container["env"]}
            mounts = [mount["mountPath"] for mount in container["volumeMounts"]]
            for name in ("PASSWORD_FILE", "CA_FILE", "CERT_FILE", "KEY_FILE"):
                path = Path(env[f"LAYERWATCH_KAFKA__{name}"])
                assert str(path.parent) in mounts, f"{container['name']} does not mount {path}"
            assert str(Path(env["LAYERWATCH_SERVICES"]).parent) in mounts
            given = {
                name.removeprefix("LAYERWATCH_KAFKA__").lower(): value
                for name, value in env.items()
                if name.startswith("LAYERWATCH_KAFKA__")
            }
            assert KafkaSettings.model_validate(given).security == "SASL_SSL"


def test_a_pod_is_probed_and_scraped_on_the_port_that_its_process_has(tmp_path: Path) -> None:
    seen = set()
    for document in rendered(tmp_path, *full(tmp_path)):
        for container in containers(document):
            section = getattr(Settings(), container["args"][0], None)
            if section is not None:
                assert container["ports"][0]["containerPort"] == section.http_port
                seen.add(container["args"][0])
    assert seen == {"processor", "decision", "history", "notify", "scaler", "agent"}


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ([], "bootstrap"),
        ([*MINIMAL, "--set", "kafka.security=SASL_SSL"], "username|passwordSecret"),
        ([*MINIMAL, "--set", "kafka.securty=SSL"], "securty"),
        ([*MINIMAL, "--set", "notify.enabled=true"], "notify.enabled needs `services`"),
        ([*MINIMAL, "--set", "history.replicas=2"], "replicas"),
        ([*MINIMAL, "--set", "settings.LAYERWATCH_x=1"], "LAYERWATCH_x"),
    ],
)
def test_a_bad_value_is_refused_by_name(values: list[str], says: str) -> None:
    with pytest.raises(AssertionError, match=says):
        run(helm(), "template", "lw", str(CHART), "--kube-version", "1.31", *values)


def test_the_rules_in_the_chart_are_rules(tmp_path: Path) -> None:
    tool = str(program("promtool"))
    documents = rendered(tmp_path, *full(tmp_path))
    (rule,) = [document for document in documents if document["kind"] == "PrometheusRule"]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rule["spec"]))
    assert "SUCCESS: 16 rules found" in run(tool, "check", "rules", str(tmp_path / "rules.yaml"))


def test_compose_understands_its_file_with_and_without_a_cluster_of_ones_own(tmp_path: Path) -> None:
    compose = docker_compose()
    profiles = [word for name in ("kafka", "monitoring", "scaler", "agent") for word in ("--profile", name)]
    text = run(compose, "--file", str(COMPOSE / "compose.yaml"), *profiles, "config")
    services = yaml.safe_load(text)["services"]
    assert services["processor"]["environment"]["LAYERWATCH_KAFKA__BOOTSTRAP"] == "kafka:9092"
    assert services["topics"]["depends_on"]["kafka"]["condition"] == "service_healthy"
    own = tmp_path / "compose"
    own.mkdir()
    for path in COMPOSE.glob("*"):
        if path.is_file():
            (own / path.name).write_text(path.read_text())
    (own / "kafka.env").write_text((COMPOSE / "kafka.env.example").read_text())
    services = yaml.safe_load(run(compose, "--file", str(own / "compose.yaml"), "config"))["services"]
    assert "kafka" not in services
    for name in ("topics", "processor", "decision", "history", "notify"):
        env = services[name]["environment"]
        assert env["LAYERWATCH_KAFKA__SECURITY"] == "SASL_SSL", name
        assert env["LAYERWATCH_KAFKA__BOOTSTRAP"].startswith("kafka-1.example")


def test_prometheus_and_alertmanager_understand_what_compose_gives_them(tmp_path: Path) -> None:
    run(str(program("amtool")), "check-config", str(COMPOSE / "alertmanager.yml"))
    config = (
        (COMPOSE / "prometheus.yml").read_text().replace("/etc/prometheus/rules", str(INFRA / "prometheus"))
    )
    (tmp_path / "prometheus.yml").write_text(config)
    run(str(program("promtool")), "check", "config", str(tmp_path / "prometheus.yml"))
    targets = {
        job["job_name"].removeprefix("layerwatch-"): port_of(job)
        for job in yaml.safe_load(config)["scrape_configs"]
    }
    assert targets == {name: getattr(Settings(), name).http_port for name in targets}


def test_the_services_of_compose_can_be_told() -> None:
    found = load_services(COMPOSE / "services.toml")
    assert found.get("any").channels == ["alerts"]


def test_every_variable_in_infra_is_a_setting_of_ours() -> None:
    known = {variable(path) for path, *_ in describe(Settings())} | {CONFIG_VARIABLE, "LAYERWATCH_SERVICES"}
    found = {name for path in texts() for name in re.findall(r"\bLAYERWATCH_[A-Z0-9_]+\b", path.read_text())}
    assert found
    assert {name.rstrip("_") for name in found} - {"LAYERWATCH"} <= known


def port_of(job: dict[str, Any]) -> int:
    if "dns_sd_configs" in job:
        return int(job["dns_sd_configs"][0]["port"])
    return int(job["static_configs"][0]["targets"][0].rpartition(":")[2])


def texts() -> Iterator[Path]:
    for path in sorted(INFRA.rglob("*")):
        if path.is_file() and path.suffix in {".yaml", ".yml", ".tpl", ".env", ".example", ".md", ""}:
            yield path


def containers(document: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (
        document.get("spec", {}).get("template", {}).get("spec", {}).get("containers", [])
    )
    return found
