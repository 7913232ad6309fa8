"""The doctor: what is wrong is said with its remedy, and only what is needed fails."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from brokers import free_port, make_settings, new_broker
from prometheus_client import CollectorRegistry

from layerwatch.broker.local import LocalBroker
from layerwatch.cli import checks
from layerwatch.cli.checks import Check
from layerwatch.cli.stack import wanted
from layerwatch.hosting.environment import environment
from layerwatch.hosting.health import HealthServer
from layerwatch.hosting.kill_switch import KillSwitch
from layerwatch.hosting.settings import Settings

pytestmark = pytest.mark.kafka


def _found(settings: Settings) -> dict[str, Check]:
    return {check.name: check for check in checks.run(settings)}


def _doctor(env: dict[str, str], *options: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "layerwatch.cli.main", "doctor", *options]
    return subprocess.run(argv, env=env, capture_output=True, text=True, check=False)


def test_all_is_well_beside_a_running_kafka_with_its_topics(settings: Settings) -> None:
    done = _doctor(environment(settings), "--json")
    assert done.returncode == 0, done.stdout
    lines: list[dict[str, Any]] = [json.loads(line) for line in done.stdout.splitlines()]
    states = {line["name"]: line["state"] for line in lines if "name" in line}
    assert {states[name] for name in ("python", "java", "jars", "kafka", "topics", "models")} == {"ok"}
    sources = {line["setting"]: line["source"] for line in lines if "setting" in line}
    assert sources["kafka.port"] == "LAYERWATCH_KAFKA__PORT"
    assert sources["kafka.bootstrap"] == "default"


def test_missing_topics_fail_with_the_command_that_makes_them(
    own_broker: LocalBroker, tmp_path: Path
) -> None:
    done = _doctor(environment(make_settings(own_broker, tmp_path)))
    assert done.returncode == 1
    assert "layerwatch.profiles is missing" in done.stdout
    assert "-> run `layerwatch topics`" in done.stdout


def test_a_local_kafka_that_does_not_run_yet_is_no_failure_but_a_silent_cluster_is(tmp_path: Path) -> None:
    broker = new_broker(tmp_path)
    assert _found(make_settings(broker, tmp_path))["kafka"].state == "warn"
    elsewhere = f"127.0.0.1:{free_port()}"
    found = _found(make_settings(broker, tmp_path, kafka={"bootstrap": elsewhere}))
    assert found["kafka"].state == "fail"
    assert "LAYERWATCH_KAFKA__BOOTSTRAP" in found["kafka"].remedy
    assert "java" not in found


def test_without_java_and_maven_it_says_what_to_install(tmp_path: Path) -> None:
    broker = LocalBroker(tmp_path, tmp_path, free_port())
    settings = make_settings(broker, tmp_path, state_dir=tmp_path / "bare")
    env = environment(settings) | {"PATH": os.fspath(tmp_path)}
    done = _doctor(env)
    assert done.returncode == 1
    assert "apt-get install openjdk-17-jre-headless" in done.stdout
    assert "apt-get install maven" in done.stdout


def test_models_must_be_there_when_a_folder_is_named(tmp_path: Path) -> None:
    broker = LocalBroker(tmp_path, tmp_path, free_port())
    models = tmp_path / "models"
    settings = make_settings(broker, tmp_path, models_dir=models)
    assert _found(settings)["models"].state == "fail"
    models.mkdir()
    assert "`layerwatch train`" in _found(settings)["models"].remedy
    (models / "forest.safetensors").touch()
    assert _found(settings)["models"] == Check("models", "ok", f"1 in {models}")


def test_a_service_is_told_from_a_stranger_on_its_port(tmp_path: Path) -> None:
    broker = LocalBroker(tmp_path, tmp_path, free_port())
    healthy = HealthServer(0, CollectorRegistry(), lambda: None, lambda: True).start()
    ill = HealthServer(0, CollectorRegistry(), lambda: "no progress for 40 s", lambda: True).start()
    try:
        with socket.create_server(("127.0.0.1", 0)) as stranger:
            settings = make_settings(
                broker,
                tmp_path,
                processor={"http_port": healthy.port},
                decision={"http_port": ill.port},
                history={"http_port": stranger.getsockname()[1]},
            )
            found = _found(settings)
    finally:
        healthy.close()
        ill.close()
    assert found["processor"].state == "ok"
    assert "no progress for 40 s" in found["decision"].found
    assert found["decision"].state == "fail"
    assert "LAYERWATCH_HISTORY__HTTP_PORT" in found["history"].remedy


def test_channels_are_looked_at_and_the_notifier_only_where_there_are_some(tmp_path: Path) -> None:
    services, key = tmp_path / "services.toml", tmp_path / "key"
    services.write_text(f'[channels.pager]\nkind = "pagerduty"\nsecret_file = "{key}"\n')
    broker = new_broker(tmp_path)
    without = _found(make_settings(broker, tmp_path))
    assert without["channels"].found.startswith("none")
    assert "notify" not in without
    settings = make_settings(broker, tmp_path, services=str(services))
    found = _found(settings)
    assert found["channels"].state == "fail"
    assert f"secret_file {key} cannot be read" in found["channels"].remedy
    assert found["notify"].state == "ok"
    assert wanted(settings) == ("processor", "decision", "history", "notify")
    key.write_text("0123456789abcdef0123456789abcdef")
    assert _found(settings)["channels"].found == "pager (pagerduty)"
    services.write_text("[channels.pager]\n")
    assert _found(settings)["services"].state == "fail"


@pytest.mark.parametrize(
    ("said", "scaled"),
    [
        ("[services.a]\ntarget_latency_ms = 5.0\n", True),
        ('[defaults]\nmode = "enforce"\n', True),
        ('[services.a]\nmode = "advise"\n', False),
    ],
)
def test_the_scaler_runs_once_there_is_a_number_to_tell(tmp_path: Path, said: str, scaled: bool) -> None:
    services = tmp_path / "services.toml"
    services.write_text(said)
    settings = make_settings(new_broker(tmp_path), tmp_path, services=str(services))
    assert ("scaler" in wanted(settings)) == scaled


def test_a_policy_that_cannot_be_used_and_a_kill_switch_that_is_on_are_told(tmp_path: Path) -> None:
    broker = LocalBroker(tmp_path, tmp_path, free_port())
    policy = tmp_path / "policy.toml"
    policy.write_text('name = "mine"\n')
    settings = make_settings(broker, tmp_path, decision={"policy": policy})
    assert _found(settings)["policy"].state == "fail"
    assert str(policy) in _found(settings)["policy"].remedy
    assert _found(settings)["kill switch"].state == "ok"
    KillSwitch(settings.state_dir).kill("bert-qa", "incident 7")
    found = _found(settings)["kill switch"]
    assert (found.state, found.found) == ("warn", "decisions are off for bert-qa: incident 7")
    assert "layerwatch kill --resume" in found.remedy
