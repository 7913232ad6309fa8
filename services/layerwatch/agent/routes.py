"""Which engine a runtime should use: the routing decisions that machines obey, from `layerwatch.decisions.current`."""

from __future__ import annotations

import logging

from layerwatch.schemas.control_page import Route, encode_route
from layerwatch.schemas.decisions import DECISION_READER
from layerwatch.schemas.errors import InvalidRecord
from layerwatch.schemas.times import unix_s

_log = logging.getLogger(__name__)

#: Decisions that are remembered, of all hosts: each agent reads the whole topic.
_MAX_ROUTES = 100_000


class Routes:
    """Read it from any thread. Decisions of other modes than enforce are for people and are passed over."""

    def __init__(self) -> None:
        self.read = self.refused = 0
        self._by_target: dict[str, Route] = {}

    def take(self, value: bytes | None) -> None:
        """One record of the topic."""
        if value is None:
            return
        try:
            decision = DECISION_READER.decode(value)
            if decision.target.domain != "routing":
                return
            route = Route(
                decision.action,
                str(decision.parameters.get("engine", "")),
                unix_s(decision.expires_at),
                decision.epoch,
                decision.id,
            )
            encode_route(1, route)  # what no page holds is refused here, once
        except (InvalidRecord, ValueError) as error:
            self.refused += 1
            _log.warning("refused a decision: %s", error)
            return
        self.read += 1
        key = decision.target.key
        holds = decision.mode == "enforce" and decision.status == "active"
        if holds and (key in self._by_target or len(self._by_target) < _MAX_ROUTES):
            self._by_target[key] = route
        else:
            self._by_target.pop(key, None)

    def of(self, service: str, instance: str, now_s: float) -> Route | None:
        """The decision that holds for an instance at a moment (unix s): its own before its service's."""
        for target in (f"{service}/{instance}/routing", f"{service}/*/routing"):
            route = self._by_target.get(target)
            if route is not None and route.expires_s > now_s:
                return route
        return None
