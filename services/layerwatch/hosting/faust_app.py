"""The faust application, with settings that were measured to survive. It is pinned exactly: we use its internals."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import faust
from faust.streams import _current_event as current_event  # decides where a table's change goes

from layerwatch.hosting.faust_consumer import Transport
from layerwatch.hosting.positions import Positions
from layerwatch.hosting.security import security
from layerwatch.hosting.settings import Settings

__all__ = ["current_event", "faust_app", "run"]


def faust_app(
    name: str, settings: Settings, positions: Positions, write_all: Callable[[], Awaitable[None]]
) -> Any:
    """An application named layerwatch-`name`; its tables live in the state directory, it commits what `positions` say.

    `write_all` is waited for before partitions or the process go.
    """
    data = (settings.state_dir / "streams" / name).resolve()
    data.mkdir(parents=True, exist_ok=True)  # faust makes only the last level
    app = _app(name, settings, data)
    app.transport = Transport(app.conf.broker_consumer, app, loop=app.loop)
    app.transport.positions, app.transport.write_all = positions, write_all
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
        broker_credentials=_credentials(settings),
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
        producer_linger=0.005,
        producer_max_request_size=4 << 20,
        consumer_max_fetch_size=1 << 20,
        stream_buffer_maxsize=256,
        stream_wait_empty=True,
        worker_redirect_stdouts=False,
    )


def _credentials(settings: Settings) -> Any:
    found = security(settings.kafka)
    if found.username is not None:
        return faust.SASLCredentials(
            username=found.username,
            password=found.password,
            mechanism=found.mechanism,
            ssl_context=found.context,
        )
    return None if found.context is None else faust.SSLCredentials(context=found.context)
