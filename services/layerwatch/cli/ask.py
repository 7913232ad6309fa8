"""Ask the history service over HTTP."""

from __future__ import annotations

import datetime as dt
import json
import re
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from http.client import HTTPException
from typing import Any
from urllib.parse import quote, urlencode

from layerwatch.hosting.settings import HistorySettings
from layerwatch.schemas.errors import ConfigError, LayerwatchError, Unavailable
from layerwatch.schemas.times import rfc3339, unix_s

Item = dict[str, Any]

_TIMEOUT_S = 10
_PAGE = 1000
_UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def items(
    settings: HistorySettings, path: str, filters: Mapping[str, str | None], limit: int
) -> Iterator[Item]:
    """At most `limit` items of a list, page by page; filters of None are left out."""
    given = {name: value for name, value in filters.items() if value is not None}
    page: str | None = None
    while limit > 0:
        query = urlencode({**given, "limit": min(limit, _PAGE), **({"page": page} if page else {})})
        answer = _get(settings, f"{path}?{query}")
        if answer is None:
            raise _no_history(settings, "it knows no such list")
        yield from answer["items"]
        limit -= len(answer["items"])
        page = answer["next"]
        if page is None:
            return


def one(settings: HistorySettings, path: str, id: str, rest: str = "") -> Item | None:
    """One document; None where the id is unknown."""
    return _get(settings, f"{path}/{quote(id, safe='')}{rest}")


def since(text: str | None, now_s: float) -> str | None:
    """`15m`, `2h`, `3d` before now, or an RFC 3339 time, as RFC 3339; raises ConfigError."""
    if text is None:
        return None
    ago = re.fullmatch(r"([0-9]{1,6})([smhd])", text)
    try:
        return rfc3339(now_s - int(ago[1]) * _UNIT_S[ago[2]] if ago else unix_s(text))
    except (ValueError, OverflowError) as error:
        raise ConfigError(
            f"--since {text}: write 30s, 15m, 2h, 3d or a time such as 2026-11-22T10:00:00Z"
        ) from error


def duration(start: str, end: str) -> str:
    """The time between two RFC 3339 times, for people."""
    return str(dt.timedelta(seconds=round(unix_s(end) - unix_s(start))))


def _get(settings: HistorySettings, path: str) -> Item | None:
    base = settings.base_url.rstrip("/")
    if not base.startswith(("http://", "https://")):
        raise ConfigError(
            f"LAYERWATCH_HISTORY__URL is {base}: write it as http://host:port or https://host:port"
        )
    # The history is a neighbour: a proxy for the way out is not asked for it.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(base + path, timeout=_TIMEOUT_S) as answer:
            document = json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            if _is_problem(error) and error.code == HTTPStatus.NOT_FOUND:
                return None
            raise _refusal(settings, error) from error
    except (OSError, HTTPException, ValueError) as error:
        raise _no_history(settings, str(getattr(error, "reason", error))) from error
    if not isinstance(document, dict):
        raise _no_history(settings, "the answer is not that of a history service")
    return document


def _refusal(settings: HistorySettings, error: urllib.error.HTTPError) -> LayerwatchError:
    """ConfigError for a bad question, Unavailable for anything else."""
    if not _is_problem(error):
        return _no_history(settings, f"it answers {error.code}")
    detail = json.load(error)["detail"]
    if error.code == HTTPStatus.BAD_REQUEST:
        return ConfigError(f"the history refuses this: {detail}")
    return _no_history(settings, detail)


def _is_problem(error: urllib.error.HTTPError) -> bool:
    """Whether this is the history's own way to say no, not that of another server at its address."""
    return error.headers.get_content_type() == "application/problem+json"


def _no_history(settings: HistorySettings, why: str) -> Unavailable:
    return Unavailable(
        f"no history service at {settings.base_url} ({why}): start `layerwatch history` or `layerwatch up`,"
        " or set LAYERWATCH_HISTORY__URL"
    )
