"""Those who obey: a runtime that switches its engine, an autoscaler that starts replicas. They know leases and nothing else."""

from __future__ import annotations

from collections.abc import Iterable

from layerwatch.schemas.decisions import Decision
from layerwatch.schemas.times import unix_s

_SWITCHES = ("fallback_precision", "failover")


class Obedience:
    """Decisions as a consumer of layerwatch.decisions.current holds them: enforced ones, until their lease ends."""

    def __init__(self) -> None:
        self._current: dict[str, Decision] = {}

    def hear(self, decisions: Iterable[Decision]) -> None:
        for decision in decisions:
            known = self._current.get(decision.target.key)
            if known is None or (decision.epoch, decision.revision) > (known.epoch, known.revision):
                self._current[decision.target.key] = decision

    def engine_of(self, instance: str, at_s: float) -> str | None:
        """The build that an instance is to go to; None is its own. A decision for it wins over one for all."""
        for target in (instance, "*"):
            for decision in self._holding(at_s):
                if decision.target.instance == target and decision.action in _SWITCHES:
                    return str(decision.parameters.get("engine", ""))
        return None

    def wants_more(self, at_s: float) -> bool:
        """Whether replicas are to be added."""
        return any(decision.action == "scale_out" for decision in self._holding(at_s))

    def _holding(self, at_s: float) -> list[Decision]:
        return [
            d
            for d in self._current.values()
            if d.status == "active" and d.mode == "enforce" and unix_s(d.expires_at) > at_s
        ]
