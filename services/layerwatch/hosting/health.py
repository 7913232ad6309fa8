"""`/healthz`, `/readyz` and `/metrics` of a process, from a thread of its own; on loopback unless it is told otherwise."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable
from ipaddress import ip_address
from socketserver import ThreadingMixIn
from typing import Any, NamedTuple, Protocol
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app

from layerwatch.schemas.errors import ConfigError

#: Of a request's body; an order is far smaller.
_MOST_BYTES = 65_536


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Scrapes come every few seconds: not worth a line."""


class Answer(NamedTuple):
    """To a request: an HTTP status line, and what is sent as JSON."""

    status: str
    body: Any


class Route(Protocol):
    """More that a process answers. None for a path that is none of its own."""

    def __call__(self, method: str, path: str, content_type: str, body: bytes) -> Answer | None: ...


class HealthServer:
    """Serves the state of one process. `problem()` returns None when healthy, else what is wrong."""

    def __init__(
        self,
        port: int,
        registry: CollectorRegistry,
        problem: Callable[[], str | None],
        ready: Callable[[], bool],
        route: Route | None = None,
        *,
        host: str = "127.0.0.1",
    ) -> None:
        """What `route` answers is answered to callers on this machine alone, wherever it listens."""
        metrics = make_wsgi_app(registry)

        def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
            path = environ.get("PATH_INFO", "")
            is_ours = ip_address(environ["REMOTE_ADDR"]).is_loopback
            if route is not None and is_ours and (answer := _routed(route, environ)) is not None:
                text = json.dumps(answer.body) + "\n"
                return _replied(start_response, answer.status, "application/json", text)
            if path == "/metrics":
                scraped: Iterable[bytes] = metrics(environ, start_response)
                return scraped
            if path == "/healthz":
                wrong = problem()
                status, text = ("503 Service Unavailable", wrong) if wrong else ("200 OK", "ok")
            elif path == "/readyz":
                status, text = ("200 OK", "ready") if ready() else ("503 Service Unavailable", "starting")
            else:
                status, text = "404 Not Found", "ask /healthz, /readyz or /metrics"
            return _replied(start_response, status, "text/plain; charset=utf-8", text + "\n")

        try:
            self._server = make_server(host, port, app, server_class=_Server, handler_class=_Quiet)
        except OSError as error:
            raise ConfigError(
                f"cannot listen on {host} port {port} ({error}): set another http_port, or LAYERWATCH_HTTP_HOST"
            ) from error
        self.port: int = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, name="health", daemon=True)

    def start(self) -> HealthServer:
        self._thread.start()
        return self

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _routed(route: Route, environ: dict[str, Any]) -> Answer | None:
    length = environ.get("CONTENT_LENGTH") or "0"
    size = min(int(length), _MOST_BYTES) if length.isdigit() else 0
    return route(
        environ.get("REQUEST_METHOD", "GET"),
        environ.get("PATH_INFO", ""),
        environ.get("CONTENT_TYPE", "").partition(";")[0].strip(),
        environ["wsgi.input"].read(size) if size else b"",
    )


def _replied(
    start_response: Callable[..., Any], status: str, content_type: str, text: str
) -> Iterable[bytes]:
    body = text.encode()
    start_response(status, [("Content-Type", content_type), ("Content-Length", str(len(body)))])
    return [body]
