"""The history over HTTP."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from http import HTTPStatus
from urllib.parse import quote

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from layerwatch.history.filters import ALERT_FILTERS, DECISION_FILTERS, Filter
from layerwatch.history.openapi import document
from layerwatch.history.problems import bad_parameter, http_error, problem, unexpected
from layerwatch.history.query import BadParameter, once, parse, token
from layerwatch.history.reader import Condition, Reader
from layerwatch.history.tables import ALERT, DECISION, Kind
from layerwatch.history.verdict import verdict

Endpoint = Callable[[Request], Response]

_VERDICT_ALERTS = 20  # named in a verdict


def create_app(
    reader: Reader,
    registry: CollectorRegistry,
    wrong: Callable[[], str | None],
    ready: Callable[[], bool],
    heard_s: Callable[[str], float | None],
    clock: Callable[[], float] = time.time,
) -> Starlette:
    """The application. `wrong()` is None when healthy, else what is wrong; `heard_s` as in `Heard`."""
    routes = [
        Route("/v1/alerts", _listing(reader, ALERT, ALERT_FILTERS)),
        # An id may hold a slash: hence `path`, and the longer route first.
        Route("/v1/alerts/{id:path}/events", _events(reader)),
        Route("/v1/alerts/{id:path}", _alert(reader)),
        Route("/v1/decisions", _listing(reader, DECISION, DECISION_FILTERS)),
        Route("/v1/verdicts/{service:path}", _verdict(reader, wrong, ready, heard_s, clock)),
        Route("/healthz", _healthz(wrong)),
        Route("/readyz", _readyz(ready)),
        Route("/metrics", _metrics(registry)),
        Route("/openapi.json", _openapi),
    ]
    handlers = {BadParameter: bad_parameter, HTTPException: http_error, Exception: unexpected}
    return Starlette(routes=routes, exception_handlers=handlers)


def _listing(reader: Reader, kind: Kind, filters: Sequence[Filter]) -> Endpoint:
    def listing(request: Request) -> Response:
        query = parse(request.query_params.multi_items(), filters)
        page = reader.page(kind, query.conditions, query.after, query.limit)
        return _items(page.items, token(page.next) if page.next else None)

    return listing


def _alert(reader: Reader) -> Endpoint:
    def alert(request: Request) -> Response:
        once(request.query_params.multi_items(), [])
        id = request.path_params["id"]
        found = reader.newest(ALERT, id)
        if found is None:
            return _unknown(id)
        revision, text = found
        etag = f'"{quote(id, safe="")}-{revision}"'
        if _matches(request.headers.get("if-none-match", ""), etag):
            return Response(status_code=HTTPStatus.NOT_MODIFIED, headers={"ETag": etag})
        return Response(text, media_type="application/json", headers={"ETag": etag})

    return alert


def _events(reader: Reader) -> Endpoint:
    def events(request: Request) -> Response:
        once(request.query_params.multi_items(), [])
        id = request.path_params["id"]
        items = reader.revisions(ALERT, id)
        return _items(items, None) if items else _unknown(id)

    return events


def _verdict(
    reader: Reader,
    wrong: Callable[[], str | None],
    ready: Callable[[], bool],
    heard_s: Callable[[str], float | None],
    clock: Callable[[], float],
) -> Endpoint:
    def judged(request: Request) -> Response:
        once(request.query_params.multi_items(), [])
        service = request.path_params["service"]
        conditions: list[Condition] = [
            ("c.service = ?", service),
            ("c.status = ?", "firing"),
            ("c.severity <> ?", "info"),
        ]
        page = reader.page(ALERT, conditions, None, _VERDICT_ALERTS)
        problem = wrong() or (None if ready() else "the history is still catching up with the topics")
        firing = [json.loads(item) for item in page.items]
        return JSONResponse({"data": verdict(service, firing, heard_s(service), problem, clock())})

    return judged


def _items(items: Sequence[str], next: str | None) -> Response:
    # Items go out as they were emitted, so they are not parsed here.
    text = f'{{"items": [{", ".join(items)}], "next": {json.dumps(next)}}}'
    return Response(text, media_type="application/json")


def _unknown(id: str) -> Response:
    return problem(HTTPStatus.NOT_FOUND, f"there is no alert {id}: /v1/alerts lists those there are")


def _matches(if_none_match: str, etag: str) -> bool:
    tags = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
    return "*" in tags or etag in tags


def _healthz(wrong: Callable[[], str | None]) -> Endpoint:
    def healthz(_: Request) -> Response:
        text = wrong()
        status = HTTPStatus.SERVICE_UNAVAILABLE if text else HTTPStatus.OK
        return PlainTextResponse(f"{text or 'ok'}\n", status)

    return healthz


def _readyz(ready: Callable[[], bool]) -> Endpoint:
    def readyz(_: Request) -> Response:
        if ready():
            return PlainTextResponse("ready\n")
        return PlainTextResponse("catching up with the topics\n", HTTPStatus.SERVICE_UNAVAILABLE)

    return readyz


def _metrics(registry: CollectorRegistry) -> Endpoint:
    def metrics(_: Request) -> Response:
        return Response(generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    return metrics


def _openapi(_: Request) -> Response:
    return JSONResponse(document())
