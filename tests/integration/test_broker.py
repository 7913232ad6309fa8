"""The local broker: formatted once, stopped clean, gone with its parent."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from brokers import LIBS, free_port, make_settings, new_broker
from waiting import alive, wait_until

from layerwatch.broker.local import LocalBroker
from layerwatch.hosting import topics
from layerwatch.hosting.environment import environment
from layerwatch.hosting.kafka import consumer, producer
from layerwatch.schemas.errors import ConfigError, Unavailable
from layerwatch.schemas.topics import PROFILES

pytestmark = pytest.mark.kafka


def _read_one(broker: LocalBroker, tmp_path: Path) -> bytes | None:
    reader = consumer(make_settings(broker, tmp_path), PROFILES)
    found: list[bytes | None] = []

    def poll() -> bool:
        found.extend(record.value for records in reader.poll(200).values() for record in records)
        return bool(found)

    try:
        wait_until(poll, "a record")
    finally:
        reader.close()
    return found[0]


def test_formats_once_and_keeps_its_data_over_a_restart_and_a_crash(
    own_broker: LocalBroker, tmp_path: Path
) -> None:
    settings = make_settings(own_broker, tmp_path)
    topics.ensure(settings)
    writer = producer(settings)
    writer.send(PROFILES, b"kept", b"key").get(30)
    writer.close()
    identity = (own_broker.home / "data" / "meta.properties").read_text()

    own_broker.restart()
    assert _read_one(own_broker, tmp_path) == b"kept"
    own_broker.kill()
    own_broker.start()
    assert _read_one(own_broker, tmp_path) == b"kept"
    assert (own_broker.home / "data" / "meta.properties").read_text() == identity


def test_stops_clean_and_leaves_no_process(own_broker: LocalBroker) -> None:
    pid = own_broker.pid
    assert pid is not None
    own_broker.stop()
    assert own_broker.pid is None
    assert not alive(pid)
    assert (own_broker.home / "data" / ".kafka_cleanshutdown").exists()


@pytest.mark.parametrize("offset", [0, 1])
def test_a_taken_port_is_named_with_its_setting(tmp_path: Path, offset: int) -> None:
    broker = new_broker(tmp_path / "kafka")
    with socket.socket() as squatter:
        squatter.bind(("127.0.0.1", broker.port + offset))
        squatter.listen()
        with pytest.raises(ConfigError, match=rf"port {broker.port + offset} .*LAYERWATCH_KAFKA__PORT"):
            broker.start()
    assert broker.pid is None


def test_a_broker_that_ends_at_once_shows_the_end_of_its_log(tmp_path: Path) -> None:
    broker = new_broker(tmp_path / "kafka")
    broker.start()
    broker.stop()
    (broker.home / "data" / "meta.properties").write_text("version=1\nnode.id=7\ncluster.id=other\n")
    with pytest.raises(Unavailable, match=r"(?s)broker\.log ends with.*node"):
        broker.start()
    assert broker.pid is None


def test_dies_with_its_parent_even_when_a_short_lived_thread_started_it(tmp_path: Path) -> None:
    port = new_broker(tmp_path).port
    code = f"""
import threading, time
from pathlib import Path
from layerwatch.broker.local import LocalBroker
broker = LocalBroker(Path({str(tmp_path / "kafka")!r}), Path({str(LIBS)!r}), {port})
starter = threading.Thread(target=broker.start)
starter.start()
starter.join()
time.sleep(1)  # longer than the kernel takes to deliver a signal for the thread that has ended
assert broker.pid
print(broker.pid, flush=True)
time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert alive(pid)
        parent.kill()
    wait_until(lambda: not alive(pid), "the broker's end")


def test_the_command_says_where_it_listens_and_ends_clean_on_sigterm(tmp_path: Path) -> None:
    broker = new_broker(tmp_path)
    env = environment(make_settings(broker, tmp_path))
    argv = [sys.executable, "-m", "layerwatch.cli.main", "broker"]
    with subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, text=True) as command:
        assert command.stdout is not None
        assert f"ready at {broker.bootstrap} " in command.stdout.readline()
        command.send_signal(signal.SIGTERM)
        assert command.wait(60) == 0
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", broker.port)) != 0


def test_the_command_refuses_beside_a_configured_cluster(tmp_path: Path) -> None:
    broker = LocalBroker(tmp_path, LIBS, free_port())
    env = environment(make_settings(broker, tmp_path, kafka={"bootstrap": "kafka.example:9092"}))
    argv = [sys.executable, "-m", "layerwatch.cli.main", "broker"]
    done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "kafka.example:9092" in done.stderr
    assert "LAYERWATCH_KAFKA__BOOTSTRAP" in done.stderr
