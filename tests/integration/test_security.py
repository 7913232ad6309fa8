"""Kafka behind TLS and passwords: every client of ours gets in with the right ones, and says what is wrong otherwise."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from brokers import make_settings, new_broker
from history_records import alert_json
from stack import Service, read, running

from layerwatch.broker import files
from layerwatch.broker.local import LocalBroker
from layerwatch.hosting import kafka, topics
from layerwatch.hosting.security import security
from layerwatch.hosting.settings import KafkaSettings, Settings
from layerwatch.schemas.errors import ConfigError, Unavailable
from layerwatch.schemas.topics import ALERTS, DECISIONS

pytestmark = pytest.mark.kafka

USER, PASSWORD = "layerwatch", "correct horse battery"
_STORE = "changeit"


def keytool(home: Path, *arguments: str) -> None:
    command = ["keytool", "-storepass", _STORE, "-keypass", _STORE, "-storetype", "PKCS12", *arguments]
    subprocess.run(command, cwd=home, check=True, capture_output=True)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalBroker]:
    """A broker that speaks TLS and asks for a password; `home/ca.pem` is its certificate."""
    home = tmp_path_factory.mktemp("guarded")
    key = (
        "-genkeypair",
        "-keyalg",
        "RSA",
        "-alias",
        "broker",
        "-keystore",
        "broker.p12",
        "-dname",
        "CN=broker",
    )
    keytool(home, *key, "-ext", "SAN=IP:127.0.0.1", "-validity", "30")
    keytool(home, "-exportcert", "-rfc", "-alias", "broker", "-keystore", "broker.p12", "-file", "ca.pem")
    plain = files.find("server.properties").read_text()
    guard = plain.replace("listeners=PLAINTEXT:", "listeners=SASL_SSL:").replace(
        "PLAINTEXT:PLAINTEXT,", "SASL_SSL:SASL_SSL,"
    )
    guard = guard.replace("inter.broker.listener.name=PLAINTEXT", "inter.broker.listener.name=SASL_SSL")
    login = f'org.apache.kafka.common.security.plain.PlainLoginModule required username="{USER}"'
    guard += f"""
ssl.keystore.location={home}/broker.p12
ssl.keystore.password={_STORE}
ssl.keystore.type=PKCS12
ssl.truststore.location={home}/broker.p12
ssl.truststore.password={_STORE}
ssl.truststore.type=PKCS12
sasl.enabled.mechanisms=PLAIN
sasl.mechanism.inter.broker.protocol=PLAIN
listener.name.sasl_ssl.plain.sasl.jaas.config={login} password="{PASSWORD}" user_{USER}="{PASSWORD}";
"""
    (home / "guarded.properties").write_text(guard)
    (home / "password").write_text(PASSWORD + "\n")
    with pytest.MonkeyPatch.context() as patch:
        broker = new_broker(home)
        patch.setattr(files, "find", lambda name: home / "guarded.properties")
        try:
            yield broker.start()
        finally:
            broker.stop()


def settings_for(broker: LocalBroker, home: Path, **changes: Any) -> Settings:
    own = {
        "security": "SASL_SSL",
        "ca_file": str(broker.home / "ca.pem"),
        "sasl_mechanism": "PLAIN",
        "username": USER,
        "password_file": str(broker.home / "password"),
    }
    return make_settings(broker, home, kafka=own | changes, decision={"checkpoint_s": 0.5})


def test_every_client_gets_in(guarded: LocalBroker, tmp_path: Path) -> None:
    settings = settings_for(guarded, tmp_path)
    assert topics.ensure(settings)
    sender = kafka.producer(settings)
    sender.send(ALERTS, alert_json(severity="critical"), b"bert-qa").get(30)
    kafka.abandon(sender)
    assert len(read(settings, ALERTS)) == 1
    services = [
        Service("decision", settings),
        Service("history", settings),
    ]  # faust with aiokafka; kafka-python
    with running(*services):
        for service in services:
            service.wait_ready()
        assert not [service for service in services if PASSWORD in service.log.read_text()]
    assert topics.check(settings) == []
    assert DECISIONS in topics.inspect(settings)


@pytest.mark.parametrize(
    "wrong", [{"password": "wrong", "password_file": None}, {"ca_file": None}, {"security": "PLAINTEXT"}]
)
def test_who_is_wrong_is_not_let_in(guarded: LocalBroker, tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(Unavailable, match="LAYERWATCH_KAFKA__SECURITY"):
        topics.check(settings_for(guarded, tmp_path, **wrong))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"security": "SASL_SSL"}, "needs LAYERWATCH_KAFKA__USERNAME"),
        ({"security": "SSL", "ca_file": "/nowhere.pem"}, "CA_FILE /nowhere.pem cannot be used"),
        ({"security": "SSL", "cert_file": "/nowhere.pem"}, "must be PEM files"),
        (
            {"security": "SASL_PLAINTEXT", "username": "u", "password_file": "/nowhere"},
            "PASSWORD_FILE /nowhere cannot be read",
        ),
    ],
)
def test_a_bad_setting_is_named(given: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        security(KafkaSettings.model_validate(given))
