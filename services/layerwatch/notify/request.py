"""What is sent over HTTP, and what an answer means: the part that all channels share."""

from __future__ import annotations

import datetime as dt
import email.utils
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

#: A server that asks for more patience than this is asked again all the same (s).
_PATIENCE_MOST_S = 900.0


@dataclass(frozen=True, slots=True)
class Request:
    """A POST of JSON. `headers` may hold secrets: never log them."""

    url: str
    body: Any
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer:
    """Of a server: `json` is None where the body is none."""

    status: int
    headers: Mapping[str, str]
    text: str
    json: Any


class Undelivered(Exception):
    """Raised when a notice has not arrived. The text says why, and holds no secret."""


class Later(Undelivered):
    """It may arrive later: the network, a server's fault, or too many requests (`after_s` says how long to wait)."""

    def __init__(self, why: str, after_s: float | None = None) -> None:
        super().__init__(why)
        self.after_s = after_s


class Misconfigured(Undelivered):
    """Nothing will arrive until a person mends the channel: a wrong key, address or permission."""


class Refused(Undelivered):
    """This notice will never be taken."""


def check(answer: Answer) -> None:
    """Raises what an answer means, by its status; returns when the server has taken the request."""
    status = answer.status
    if 200 <= status < 300:
        return
    why = f"it answers {status}: {answer.text[:200].strip() or 'no more than that'}"
    if status == HTTPStatus.TOO_MANY_REQUESTS or status >= 500 or status == HTTPStatus.REQUEST_TIMEOUT:
        raise Later(why, retry_after_s(answer.headers))
    if status in (401, 403, 404, 405, 410) or 300 <= status < 400:
        raise Misconfigured(why)
    raise Refused(why)


def retry_after_s(headers: Mapping[str, str], now: dt.datetime | None = None) -> float | None:
    """Seconds of a Retry-After header, given as seconds or as a date; None without one that can be read."""
    text = headers.get("retry-after", "").strip()
    if text.isdigit():
        return min(float(text), _PATIENCE_MOST_S)
    try:
        moment = email.utils.parsedate_to_datetime(text)
    except ValueError:
        return None
    left_s = (moment - (now or dt.datetime.now(dt.timezone.utc))).total_seconds()
    return min(max(left_s, 0.0), _PATIENCE_MOST_S)
