"""Errors as RFC 9457 problem details."""

from __future__ import annotations

from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from layerwatch.history.query import BadParameter


def problem(status: int, detail: str, headers: dict[str, str] | None = None, **members: str) -> Response:
    """The answer for an error; `members` are added to the document."""
    body = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    return JSONResponse({**body, **members}, status, headers=headers, media_type="application/problem+json")


def bad_parameter(_: Request, error: Exception) -> Response:
    assert isinstance(error, BadParameter)
    return problem(HTTPStatus.BAD_REQUEST, str(error), parameter=error.name)


def http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    headers = dict(error.headers) if error.headers else None
    detail = f"{request.method} {request.url.path}: see /openapi.json for what can be asked"
    return problem(error.status_code, detail, headers)


def unexpected(_: Request, error: Exception) -> Response:
    return problem(
        HTTPStatus.INTERNAL_SERVER_ERROR, f"{type(error).__name__}: the log of the history says more"
    )
