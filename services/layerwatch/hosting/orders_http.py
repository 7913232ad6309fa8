"""Orders of people over loopback HTTP, for when Kafka is away: what is switched off, switch off, switch on again.

    GET    /v1/orders          all orders that this process knows, and what is switched off on this machine
    PUT    /v1/kill/{service}  {"reason": "..."}   switch decisions off; * is every service
    DELETE /v1/kill/{service}  take it back

Nobody asks who calls: it listens on loopback alone. A page in a browser cannot send these methods across origins.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

import msgspec

from layerwatch.hosting.health import Answer
from layerwatch.hosting.orders import OrderBook
from layerwatch.schemas.operations import ALL

_KILL = "/v1/kill/"


class _Reason(msgspec.Struct, forbid_unknown_fields=True):
    reason: str = ""


class OrdersHttp:
    """A route of `HealthServer`."""

    def __init__(self, orders: OrderBook) -> None:
        self._orders = orders

    def __call__(self, method: str, path: str, content_type: str, body: bytes) -> Answer | None:
        if path == "/v1/orders":
            return self._listed() if method == "GET" else _problem("405 Method Not Allowed", "only GET")
        if not path.startswith(_KILL) or path == _KILL:
            return None
        service = unquote(path.removeprefix(_KILL))
        if method == "PUT":
            return self._kill(service, body)
        if method == "DELETE":
            taken_back = self._orders.switch.resume(service)
            self._orders.look()
            said = {"service": service, "killed": False, "was_killed": taken_back}
            return Answer("200 OK", said)
        return _problem("405 Method Not Allowed", "PUT switches off, DELETE on again")

    def _kill(self, service: str, body: bytes) -> Answer:
        try:
            asked = msgspec.json.decode(body or b"{}", type=_Reason)
        except msgspec.MsgspecError as error:
            return _problem("400 Bad Request", f'{error}; send {{"reason": "..."}} or nothing')
        reason = asked.reason or "by a request over loopback"
        try:
            self._orders.switch.kill(service, reason)
        except OSError as error:
            return _problem("500 Internal Server Error", f"cannot write the kill switch: {error}")
        self._orders.look()
        said = "every service" if service == ALL else service
        return Answer("200 OK", {"service": service, "killed": True, "said": f"decisions on {said} are off"})

    def _listed(self) -> Answer:
        return Answer(
            "200 OK",
            {
                "killed_here": self._orders.switch.killed(),
                "orders": [msgspec.to_builtins(order) for order in self._orders.all()],
            },
        )


def _problem(status: str, detail: str) -> Answer:
    """As RFC 9457 has it."""
    problem: dict[str, Any] = {"title": status[4:], "status": int(status[:3]), "detail": detail}
    return Answer(status, problem)
