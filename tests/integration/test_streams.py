"""A stream application that is asked to stop, at the worst moment."""

from __future__ import annotations

import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import late_writer
import pytest
from brokers import make_settings
from stack import read

from layerwatch.broker.local import LocalBroker
from layerwatch.hosting import kafka
from layerwatch.hosting.environment import environment
from layerwatch.schemas.topics import SIGNALS

pytestmark = pytest.mark.kafka

CHANGELOG = "layerwatch-late-late-changelog"


def test_what_is_left_to_write_is_written_before_the_producer_stops(
    fresh_kafka: LocalBroker, tmp_path: Path
) -> None:
    settings = make_settings(fresh_kafka, tmp_path)
    argv = [sys.executable, late_writer.__file__]
    log = tmp_path / "log"
    with (
        log.open("wb") as errors,
        subprocess.Popen(
            argv, env=environment(settings), stdout=subprocess.PIPE, stderr=errors, text=True
        ) as late,
    ):
        try:
            assert late.stdout is not None
            assert late.stdout.readline() == late_writer.READY
            with closing(kafka.producer(settings, linger_ms=0)) as sender:
                sender.send(SIGNALS, b"key", b"key").get(30)
            assert late.stdout.readline() == late_writer.WRITTEN
            late.send_signal(signal.SIGTERM)  # it sleeps now, with the tail of a state not written
            assert late.wait(40) == 0
        finally:
            late.kill()
    assert [(record.key or b"").split(b"\0")[-1] for record in read(settings, CHANGELOG)] == [
        b"head",
        b"tail",
        b"head",
    ]
    assert "Traceback" not in log.read_text()
