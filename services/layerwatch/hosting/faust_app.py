"""The faust application: the only module that imports faust.

Settings that were measured to survive, and two things that faust has no public way for; it is pinned exactly.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import faust
from faust.streams import _current_event as current_event  # decides where a table's change goes
from faust.transport.drivers import aiokafka as driver

from layerwatch.hosting.settings import Settings

__all__ = ["current_event", "faust_app", "run"]

#: How long a broker may hold a fetch that finds nothing (ms). faust's 1500 cannot be set, and a consumer has one
#: fetch on its way to a broker: while that one waits on idle partitions, those with a backlog wait too.
_FETCH_WAIT_MS = 20


class _ConsumerThread(driver.AIOKafkaConsumerThread):  # type: ignore[misc]
    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = _FETCH_WAIT_MS  # read when it starts
        return consumer

    async def seek_to_committed(self) -> Any:
        return await self.call_thread(self._seek_to_committed_or_beginning)

    async def _seek_to_committed_or_beginning(self) -> Any:
        """After a rebalance. What faust had read ahead is dropped then; a partition without a commit must be read anew."""
        consumer = self._ensure_consumer()
        committed = await consumer.seek_to_committed()
        uncommitted = [
            tp for tp, offset in committed.items() if not offset and not tp.topic.endswith("-changelog")
        ]
        if uncommitted:
            await consumer.seek_to_beginning(*uncommitted)
        return committed


class _Consumer(driver.Consumer):  # type: ignore[misc]
    def _new_consumer_thread(self) -> _ConsumerThread:
        return _ConsumerThread(self, loop=self.loop, beacon=self.beacon)


class _Transport(driver.Transport):  # type: ignore[misc]
    Consumer = _Consumer


def faust_app(name: str, settings: Settings) -> Any:
    """An application named layerwatch-`name`; its tables live in the state directory."""
    data = (settings.state_dir / "streams" / name).resolve()
    data.mkdir(parents=True, exist_ok=True)  # faust makes only the last level
    app = _app(name, settings, data)
    app.transport = _Transport(app.conf.broker_consumer, app, loop=app.loop)
    return app


def run(app: Any) -> None:
    """Until SIGTERM or SIGINT; raises SystemExit at the end, as faust does."""
    worker = faust.Worker(app, override_logging=False, redirect_stdouts=False, loglevel="WARN", quiet=True)
    worker.spinner = None  # else it writes escapes to stdout, terminal or not
    worker.execute_from_commandline()


def _app(name: str, settings: Settings, data: Path) -> Any:
    # Times in seconds, the producer's linger too.
    return faust.App(
        f"layerwatch-{name}",
        broker=[f"kafka://{server}" for server in settings.kafka.servers.split(",")],
        store="rocksdb://?driver=rocksdict",
        datadir=str(data),
        web_enabled=False,
        processing_guarantee="at_least_once",
        topic_partitions=settings.kafka.partitions,
        topic_replication_factor=settings.kafka.replication,
        topic_disable_leader=True,
        table_standby_replicas=0,
        broker_session_timeout=10.0,
        broker_heartbeat_interval=2.0,
        broker_commit_interval=1.0,
        broker_commit_every=1000,
        producer_linger=0.005,
        producer_max_request_size=4 << 20,
        consumer_max_fetch_size=1 << 20,
        stream_buffer_maxsize=256,
        stream_wait_empty=True,
        worker_redirect_stdouts=False,
    )
