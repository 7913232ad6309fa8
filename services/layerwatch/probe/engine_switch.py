"""Routes executions between the primary engine and prepared standbys, as decisions of mode enforce say.

    switch = EngineSwitch(probe, primary=int8, standbys={"fp16": fp16})
    with switch.pick() as engine:            # int8, or fp16 while a decision says so
        ...                                  # one whole execution on it, as ever

An execution stays on what it has picked to its end; the next one may go elsewhere. It starts no thread, waits for nothing and
raises nothing: where it cannot know better, executions are on the primary engine.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from types import TracebackType
from typing import Generic, TypeVar

from layerwatch.probe.probe import Probe
from layerwatch.schemas.control_page import Route

_log = logging.getLogger(__name__)

E = TypeVar("E")

#: The primary engine, among the names of standbys.
PRIMARY = ""
#: A standby on which so many executions in a row have raised is not used any more for this decision.
_GIVE_UP_AFTER = 3
_SWITCHING = ("fallback_precision", "failover")


class EngineSwitch(Generic[E]):
    """Engines are whatever the caller executes with: contexts, pools, functions. All threads may share it.

    `problem` says why the last decision was not obeyed, in words; empty where it was.
    """

    def __init__(self, probe: Probe, primary: E, standbys: Mapping[str, E]) -> None:
        """`probe` watches the primary engine; `standbys` are ready to execute, by the names that decisions know them by.

        The names are those of `standby` and `fallback` in services.toml.
        """
        self.problem = ""
        self._probe = probe
        self._engines: dict[str, E] = {**standbys, PRIMARY: primary}
        self._only = next(iter(standbys)) if len(standbys) == 1 else PRIMARY
        self._running: dict[str, set[_Pick[E]]] = {name: set() for name in self._engines}
        self._failed_in_a_row = 0
        self._distrusted = ""  # id of the decision that led to a standby which does not work

    def pick(self) -> _Pick[E]:
        """A `with` block around one execution; gives the engine to execute on."""
        return _Pick(self)

    @property
    def name(self) -> str:
        """Where the next execution goes: the name of a standby, or "" for the primary engine."""
        try:
            return self._name()[0]
        except Exception:  # noqa: BLE001 - nothing of ours may reach the caller
            return PRIMARY

    def running(self, name: str = PRIMARY) -> int:
        """Executions that are on an engine just now: at 0, what nobody goes to any more may be put away."""
        return len(self._running.get(name, ()))

    def _name(self) -> tuple[str, str]:
        """Where to go, and the decision that says so."""
        route = self._probe.route()
        if route is None or route.action not in _SWITCHING:
            return PRIMARY, ""
        name = route.engine or self._only
        if name not in self._engines:
            return self._decline(route, f"no standby is called {name!r}: {sorted(self._engines)[1:]} are")
        if name == PRIMARY:
            return self._decline(route, "it names no standby, and there is not exactly one")
        if route.decision == self._distrusted:
            return self._decline(route, f"{_GIVE_UP_AFTER} executions in a row have failed on {name}")
        if self.problem:
            self.problem = ""
        return name, route.decision

    def _decline(self, route: Route, why: str) -> tuple[str, str]:
        problem = f"{route.action} by decision {route.decision} is not obeyed: {why}"
        if problem != self.problem:
            self.problem = problem
            _log.warning("%s", problem)
        return PRIMARY, ""

    def _ended(self, decision: str, failed: bool) -> None:
        """An execution on a standby has ended. Threads may count over one another: it takes one more failure then."""
        if not failed:
            self._failed_in_a_row = 0
            return
        self._failed_in_a_row += 1
        if self._failed_in_a_row >= _GIVE_UP_AFTER:
            self._failed_in_a_row, self._distrusted = 0, decision


class _Pick(Generic[E]):
    """One execution's choice."""

    __slots__ = ("_decision", "_name", "_switch")

    def __init__(self, switch: EngineSwitch[E]) -> None:
        self._switch = switch
        self._name, self._decision = PRIMARY, ""

    def __enter__(self) -> E:
        switch = self._switch
        try:
            self._name, self._decision = switch._name()
        except Exception:  # noqa: BLE001 - nothing of ours may reach the caller
            _log.warning("the switch failed, and the primary engine is used", exc_info=True)
        switch._running[self._name].add(self)  # one step of the interpreter, as `discard`: no lock is needed
        return switch._engines[self._name]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._switch._running[self._name].discard(self)
        if self._decision:
            self._switch._ended(self._decision, kind is not None and issubclass(kind, Exception))
