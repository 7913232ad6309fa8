"""A stream application that is asked to stop, at the worst moment."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import late_writer
import pytest
from brokers import make_settings
from stack import read

from layerwatch.broker.local import LocalBroker
from layerwatch.hosting import kafka
from layerwatch.hosting.environment import environment
from layerwatch.hosting.settings import Settings
from layerwatch.schemas.topics import SIGNALS

pytestmark = pytest.mark.kafka

CHANGELOG = "layerwatch-late-late-changelog"


def test_what_is_left_to_write_is_written_before_the_producer_stops(
    fresh_kafka: LocalBroker, tmp_path: Path
) -> None:
    settings = make_settings(fresh_kafka, tmp_path)
    with _late(settings, tmp_path / "log") as late:
        _make_it_write(late, settings)
        _stop(late)  # it sleeps now, with the tail of a state not written
    assert [(record.key or b"").split(b"\0")[-1] for record in read(settings, CHANGELOG)] == [
        b"head",
        b"tail",
        b"head",
    ]
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_a_stop_while_partitions_change_hands_is_a_clean_one(
    fresh_kafka: LocalBroker, tmp_path: Path
) -> None:
    settings = make_settings(fresh_kafka, tmp_path)
    with _late(settings, tmp_path / "first") as late:
        _make_it_write(late, settings)
        _stop(late)
    shutil.rmtree(settings.state_dir)  # so that it reads the changelog before it takes partitions up
    with _late(settings, tmp_path / "second", late_writer.SLOW_HAND_OVER) as late:
        assert late.stdout is not None
        assert late.stdout.readline() == late_writer.READY
        _stop(late)
    assert "Traceback" not in (tmp_path / "second").read_text()


@contextmanager
def _late(settings: Settings, log: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    argv = [sys.executable, late_writer.__file__, *arguments]
    with (
        log.open("wb") as errors,
        subprocess.Popen(
            argv, env=environment(settings), stdout=subprocess.PIPE, stderr=errors, text=True
        ) as late,
    ):
        try:
            yield late
        finally:
            late.kill()


def _make_it_write(late: subprocess.Popen[str], settings: Settings) -> None:
    assert late.stdout is not None
    assert late.stdout.readline() == late_writer.READY
    with closing(kafka.producer(settings, linger_ms=0)) as sender:
        sender.send(SIGNALS, b"key", b"key").get(30)
    assert late.stdout.readline() == late_writer.WRITTEN


def _stop(late: subprocess.Popen[str]) -> None:
    late.send_signal(signal.SIGTERM)
    assert late.wait(40) == 0
