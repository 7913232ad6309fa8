"""Services as processes of their own, recordings sent to them, and what they said read back from Kafka."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from brokers import free_port, make_settings
from checks import assert_history_complete
from kafka import TopicPartition
from waiting import wait_until

from layerwatch.broker.local import LocalBroker
from layerwatch.detectors.pipeline import Pipeline
from layerwatch.history.store import FILE_NAME
from layerwatch.hosting import kafka, process
from layerwatch.hosting.environment import environment
from layerwatch.hosting.kafka_types import Record
from layerwatch.hosting.settings import Settings
from layerwatch.recording.open import open_recording
from layerwatch.recording.outbox import Outbox
from layerwatch.recording.recording import Recording
from layerwatch.schemas.alerts import ALERT_READER, Alert
from layerwatch.schemas.codec import encode
from layerwatch.schemas.decisions import DECISION_READER, Decision
from layerwatch.schemas.engines import Manifest
from layerwatch.schemas.topics import ALERTS, DECISIONS, ENGINES, PROFILES

DATA = Path(__file__).parent / "data"
RESNET = DATA / "resnet50-h200.npz"
SHAPE_JUMP = DATA / "shape-jump-h200.npz"

#: A killed member's partitions are free after 10 s; the rest is for slow machines (s).
RECOVERY_S = 60.0


class Service:
    """`layerwatch NAME` as a child process, killed and started as often as wanted. Its output goes to `log`."""

    def __init__(self, name: str, settings: Settings) -> None:
        section = getattr(settings, name).model_copy(update={"http_port": free_port()})
        self.name = name
        self.settings = settings.model_copy(update={name: section})
        self.log = settings.state_dir / f"{name}.log"
        self._url = f"http://127.0.0.1:{section.http_port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Service:
        with self.log.open("ab") as log:
            argv = [sys.executable, "-m", "layerwatch.cli.main", self.name]
            self._process = process.spawn(argv, env=environment(self.settings), output=log)
        return self

    def wait_ready(self) -> Service:
        wait_until(lambda: self._answer("/readyz") is not None, f"{self.name} is ready", RECOVERY_S)
        return self

    def kill(self) -> None:
        """As a crash would end it."""
        assert self._process is not None
        process.signal_session(self._process, signal.SIGKILL)
        self._process.wait()

    def stop(self) -> int:
        """SIGTERM; the exit status, at the latest after the watchdog's 20 s and some."""
        self.ask_to_stop()
        return self.wait(40)

    def ask_to_stop(self) -> None:
        assert self._process is not None
        process.signal_session(self._process, signal.SIGTERM)

    def wait(self, timeout_s: float) -> int:
        assert self._process is not None
        return self._process.wait(timeout_s)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def metric(self, sample: str) -> float:
        """Value of a sample on /metrics, such as `name{label="x"}`; 0 while there is none."""
        for line in self.metrics():
            name, _, value = line.rpartition(" ")
            if name == sample:
                return float(value)
        return 0.0

    def metrics(self) -> list[str]:
        return (self._answer("/metrics") or "").splitlines()

    def health(self) -> str:
        """What /healthz says, well or not."""
        try:
            with urllib.request.urlopen(self._url + "/healthz", timeout=5) as answer:
                text: bytes = answer.read()
        except urllib.error.HTTPError as error:
            with error:
                text = error.read()
        return text.decode().strip()

    def _answer(self, path: str) -> str | None:
        with suppress(OSError), urllib.request.urlopen(self._url + path, timeout=5) as answer:
            text: bytes = answer.read()
            return text.decode()
        return None


@contextmanager
def running(*services: Service) -> Iterator[None]:
    """Starts services, and ends them whatever happens; what they logged is shown when a test fails."""
    try:
        for service in services:
            service.start()
        yield
    except BaseException:
        for service in services:
            print(
                f"--- {service.name}, running: {service.running} ---",
                service.log.read_text()[-6000:],
                sep="\n",
            )
            print(*(line for line in service.metrics() if line.startswith("layerwatch")), sep="\n")
        raise
    finally:
        for service in services:
            if service.running:
                service.kill()


def patient_settings(broker: LocalBroker, home: Path, **overrides: Any) -> Settings:
    """For tests in which a pause is no silence of an instance; checkpoints come often."""
    home.mkdir(exist_ok=True)
    sections = {"processor": {"silence_s": 3600, "checkpoint_s": 0.5}, "decision": {"checkpoint_s": 0.5}}
    return make_settings(broker, home, **(sections | overrides))


def load(path: Path, service: str, instance: str) -> Recording:
    return open_recording(path, service, instance)


def send(settings: Settings, recording: Recording, first: int = 0, last: int | None = None) -> None:
    """Publish messages [first, last) of a recording; with the first one its manifests. All have arrived at the end."""
    sender = kafka.producer(settings, linger_ms=20)
    try:
        outbox = Outbox(sender)
        if first == 0:
            for manifest in recording.manifests:
                outbox.send(ENGINES, manifest.engine, encode(manifest))
            outbox.settle()
        for batch in recording.batches[first:last]:
            outbox.send(PROFILES, batch.instance, encode(batch))
        outbox.settle()
    finally:
        kafka.abandon(sender)


def send_slowly(settings: Settings, recording: Recording, during_s: float) -> None:
    """Publish a recording over so many seconds of the present, or longer while Kafka is away."""
    sender = kafka.producer(settings, max_block_ms=60_000)
    try:
        outbox = Outbox(sender)
        for manifest in recording.manifests:
            outbox.send(ENGINES, manifest.engine, encode(manifest))
        for batch in recording:
            outbox.send(PROFILES, batch.instance, encode(batch))
            time.sleep(during_s / len(recording.batches))
        outbox.settle()
    finally:
        kafka.abandon(sender)


def send_manifests(settings: Settings, manifests: Iterable[Manifest]) -> None:
    sender = kafka.producer(settings)
    outbox = Outbox(sender)
    for manifest in manifests:
        outbox.send(ENGINES, manifest.engine, encode(manifest))
    outbox.settle()
    kafka.abandon(sender)


def read(settings: Settings, topic: str) -> list[Record]:
    """All that lies in a topic, by partition and offset."""
    consumer = kafka.consumer(settings, bootstrap_timeout_ms=60_000)
    try:
        partitions = [TopicPartition(topic, n) for n in sorted(consumer.partitions_for_topic(topic) or ())]
        consumer.assign(partitions)
        consumer.seek_to_beginning(*partitions)
        ends = consumer.end_offsets(partitions)
        found: list[Record] = []
        deadline_s = time.monotonic() + 60
        while any((consumer.position(tp) or 0) < end for tp, end in ends.items()):
            assert time.monotonic() < deadline_s, f"{topic} cannot be read to its end"
            for records in consumer.poll(timeout_ms=200).values():
                found += records
        return sorted(found, key=lambda record: (record.partition, record.offset))
    finally:
        consumer.close()


def alerts(settings: Settings, service: str) -> list[Alert]:
    """Every revision of a service's alerts on the topic, repeats too, in order."""
    return [ALERT_READER.decode(r.value or b"") for r in read(settings, ALERTS) if r.key == service.encode()]


def decisions(settings: Settings, service: str) -> list[Decision]:
    """Likewise of its decisions."""
    found = [DECISION_READER.decode(r.value or b"") for r in read(settings, DECISIONS)]
    return [decision for decision in found if decision.target.service == service]


class Offline(NamedTuple):
    alerts: list[Alert]
    decisions: list[Decision]


def offline(recording: Recording) -> Offline:
    """What the same code says of a recording in this process."""
    pipeline = Pipeline()
    for manifest in recording.manifests:
        pipeline.manifest(manifest)
    said = [pipeline.update(batch) for batch in recording] + [pipeline.finish()]
    return Offline([a for new, _ in said for a in new], [d for _, new in said for d in new])


def firing_index(recording: Recording) -> int:
    """How many messages it takes until an alert is open and has not been resolved."""
    pipeline = Pipeline()
    for manifest in recording.manifests:
        pipeline.manifest(manifest)
    for index, batch in enumerate(recording):
        if pipeline.update(batch)[0]:
            return index + 1
    raise AssertionError(f"{recording.name} raises no alert")


def without_repeats(revisions: Sequence[Any]) -> list[Any]:
    """The first of each (id, revision), in order."""
    return list({(r.id, r.revision): r for r in reversed(revisions)}.values())[::-1]


def stored(settings: Settings) -> list[dict[str, Any]]:
    """Every alert revision in the history's database."""
    path = settings.state_dir / FILE_NAME
    if not path.exists():
        return []
    try:
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as db:
            rows = db.execute("SELECT json FROM alert_revisions").fetchall()
        db.close()
    except sqlite3.OperationalError:  # no tables yet
        return []
    return [json.loads(text) for (text,) in rows]


def wait_for_ends(settings: Settings, service: str, expected: Offline) -> None:
    """Until every expected alert has been resolved."""
    ids = {a.id for a in expected.alerts}

    def missing() -> list[str]:
        return sorted(ids - {a.id for a in alerts(settings, service) if a.status == "resolved"})

    try:
        wait_until(lambda: not missing(), f"every alert of {service} is resolved", RECOVERY_S)
    except AssertionError:
        for alert in alerts(settings, service):
            known = "expected" if alert.id in ids else "unexpected"
            print(known, alert.id, alert.revision, alert.status, alert.kind, alert.opened_at)
        print("missing", missing())
        raise


def wait_for_decisions(settings: Settings, service: str, expected: Offline) -> None:
    """Until every expected lease has ended."""
    ids = {d.id for d in expected.decisions}
    wait_until(
        lambda: ids <= {d.id for d in decisions(settings, service) if d.status != "active"},
        f"every decision on {service} has ended",
        RECOVERY_S,
    )


def wait_for_history(settings: Settings, service: str, published: Sequence[Alert]) -> None:
    """Until the history holds what was published, each (id, revision) once."""
    keys = {(a.id, a.revision) for a in published}

    def rows() -> list[dict[str, Any]]:
        return [row for row in stored(settings) if row["service"] == service]

    wait_until(lambda: len(rows()) >= len(keys), f"the history of {service} is complete", RECOVERY_S)
    assert_history_complete(rows(), published)
