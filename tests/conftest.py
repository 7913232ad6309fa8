"""Brokers: `kafka` for all tests, `fresh_kafka` for a module, `own_broker` for a test that kills it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import hypothesis
import pytest
from brokers import make_settings, new_broker

from layerwatch.broker.local import LocalBroker
from layerwatch.hosting import topics
from layerwatch.hosting.settings import Settings

# The same examples in every run: what fails here fails everywhere. `--hypothesis-profile=default` draws new ones.
hypothesis.settings.register_profile("repeatable", derandomize=True)
hypothesis.settings.load_profile("repeatable")

# The matrices are small: threads of the linear algebra library would only contend. Read when numpy is loaded.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


@contextmanager
def _running(home: Path) -> Iterator[LocalBroker]:
    broker = new_broker(home)
    try:
        yield broker.start()
    finally:
        broker.stop()


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalBroker]:
    """One broker for all tests, without topics: isolate by service and instance names."""
    with _running(tmp_path_factory.mktemp("kafka")) as broker:
        yield broker


@pytest.fixture(scope="module")
def fresh_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalBroker]:
    """A broker of this module's own, with the topics created."""
    home = tmp_path_factory.mktemp("fresh-kafka")
    with _running(home) as broker:
        topics.ensure(make_settings(broker, home))
        yield broker


@pytest.fixture
def own_broker(tmp_path: Path) -> Iterator[LocalBroker]:
    """A broker of this test's own, to be killed; without topics."""
    with _running(tmp_path / "kafka") as broker:
        yield broker


@pytest.fixture
def settings(kafka: LocalBroker, tmp_path: Path) -> Settings:
    """Settings for services against the session's broker, with the topics created."""
    made = make_settings(kafka, tmp_path)
    topics.ensure(made)
    return made
