"""The process of the history: database, ingest thread and HTTP server, and their end."""

from __future__ import annotations

import logging
import signal
import socket
from functools import partial

import uvicorn

from layerwatch.history.api import create_app
from layerwatch.history.heard import Heard
from layerwatch.history.ingest import Ingest
from layerwatch.history.metrics import Metrics
from layerwatch.history.progress import Progress
from layerwatch.history.reader import Reader
from layerwatch.history.store import FILE_NAME, Store
from layerwatch.hosting.log_source import KafkaSource
from layerwatch.hosting.settings import HistorySettings, Settings
from layerwatch.schemas.errors import ConfigError, Unavailable
from layerwatch.schemas.topics import ALERTS, DECISIONS, LOAD

_log = logging.getLogger(__name__)

_STOP_S = 2


def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT. Call from the main thread.

    Raises ConfigError where port or database cannot be used, Unavailable when the ingest thread failed.
    """
    listener = bind(settings.history)
    with listener:
        path = settings.state_dir / FILE_NAME
        store, progress, metrics = Store(path), Progress(), Metrics()
        heard = Heard(partial(KafkaSource, "layerwatch-history-heard", settings, (LOAD,)))
        server = _server(
            create_app(Reader(path), metrics.registry, progress.problem, lambda: progress.ready, heard.at_s)
        )

        def end(*_: object) -> None:
            server.should_exit = True

        # uvicorn raises the signals that it caught once more when it has stopped: these make that harmless.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, end)
        connect = partial(KafkaSource, "layerwatch-history", settings, (ALERTS, DECISIONS))
        ingest = Ingest(store, connect, progress, metrics, ended=end)
        ingest.start()
        heard.start()
        _log.info("history in %s, on http://%s:%d", path, *listener.getsockname()[:2])
        server.run(sockets=[listener])
        heard.stop()
        ingest.stop(_STOP_S)
    if ingest.failure is not None:
        raise Unavailable(
            f"the history stopped reading the topics ({ingest.failure}): the log says more; start it again"
        ) from ingest.failure


def bind(settings: HistorySettings) -> socket.socket:
    """A listening socket; raises ConfigError where the address or port cannot be had."""
    family = socket.AF_INET6 if ":" in settings.http_host else socket.AF_INET
    try:
        return socket.create_server((settings.http_host, settings.http_port), family=family)
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {settings.http_host} port {settings.http_port} ({error.strerror or error}):"
            " set LAYERWATCH_HISTORY__HTTP_PORT to a free port, or LAYERWATCH_HISTORY__HTTP_HOST"
        ) from error


def _server(app: object) -> uvicorn.Server:
    return uvicorn.Server(
        uvicorn.Config(
            app,  # type: ignore[arg-type]
            access_log=False,
            log_level="warning",
            log_config=None,
            lifespan="off",
            ws="none",
            timeout_graceful_shutdown=_STOP_S,
        )
    )
