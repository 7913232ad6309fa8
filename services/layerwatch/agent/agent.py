"""The agent of a host: finds runtimes, tells of what they executed, and says what they should sample. No thread of its own."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

import msgspec

from layerwatch.agent.governor import sampling
from layerwatch.agent.inbox import Inbox
from layerwatch.agent.routes import Routes
from layerwatch.agent.sinks import Sink
from layerwatch.agent.watched import NOWHERE, WatchedRuntime
from layerwatch.schemas.codec import encode
from layerwatch.schemas.control import Control
from layerwatch.schemas.engines import Manifest, manifest_key
from layerwatch.schemas.errors import InvalidRecord
from layerwatch.schemas.runtimes import ABOUT_NAME
from layerwatch.schemas.topics import ENGINES, PROFILES

_log = logging.getLogger(__name__)

#: Between two looks for runtimes that have come or gone (s).
_SCAN_S = 0.5
#: Between two messages of an instance that is suspected, whatever the setting (s).
_SUSPECTED_S = 0.25
#: Executions that make a message due before its time: a third of what fits into one.
_DUE_AT = 4096


class Gpu(Protocol):
    """`between` gives rows of `COUNTER_COLUMNS` as float64, for a GPU by its NVML name; a time in (start, end], unix s."""

    def between(self, gpu: str, start_s: float, end_s: float) -> bytes: ...


class Agent:
    """`step` does all that is due. `controls` is what the processor wants, by instance; `routes` what was decided.

    `routes_loaded` says whether all decisions are known: until then no runtime is told that there is none.
    """

    def __init__(
        self,
        folder: Path,
        sink: Sink,
        inbox: Inbox,
        *,
        clock: Callable[[], float],
        gpu: Gpu | None = None,
        controls: Mapping[str, Control] | None = None,
        routes: Routes | None = None,
        routes_loaded: Callable[[], bool] = lambda: True,
        window_s: float = 1.0,
        ceiling_pct: float = 0.5,
        raised_ceiling_pct: float = 10.0,
    ) -> None:
        self.inbox = inbox
        self.runtimes: dict[str, WatchedRuntime] = {}
        self.ended: Counter[str] = Counter()  # runtimes, by state
        self.past: Counter[str] = Counter()  # what ended runtimes had counted
        self.past_lost: Counter[str] = Counter()
        self.refused: dict[str, str] = {}  # folders that cannot be read, and why
        self.executions = self.messages = self.samples = 0
        self.stepped_s = clock()
        self._folder = folder
        self._sink = sink
        self._clock = clock
        self._gpu = gpu
        self._controls = controls if controls is not None else {}
        self._routes = routes
        self._routes_loaded = routes_loaded
        self._window_s = window_s
        self._ceilings = {"ceiling_pct": ceiling_pct, "raised_ceiling_pct": raised_ceiling_pct}
        self._scanned_s = 0.0
        self._told_s: dict[str, float] = {}
        self._counted: dict[str, int] = {}
        self._obeyed: dict[str, Control | None] = {}
        self._engines: dict[str, Manifest] = {}

    def step(self) -> None:
        """Read rings and socket, send the messages that are due."""
        now_s = self._clock()
        if not 0 <= now_s - self._scanned_s < _SCAN_S:
            self._scanned_s = now_s
            self._scan(now_s)
        self.inbox.drain()
        for token, runtime in list(self.runtimes.items()):
            try:
                self._serve(token, runtime, now_s)
            except (OSError, ValueError, InvalidRecord) as error:
                self._refuse(token, error)
        self.stepped_s = now_s

    def close(self) -> None:
        """Tell what is known; runtimes live on, and the next agent goes on here."""
        for token, runtime in list(self.runtimes.items()):
            try:
                runtime.poll(self._clock())
                self.inbox.drain()
                self._tell(token, runtime, self._clock())
            except (OSError, InvalidRecord) as error:
                _log.warning("runtime %s: %s", runtime.about.instance, error)
            runtime.close()
        self.inbox.close()

    def _serve(self, token: str, runtime: WatchedRuntime, now_s: float) -> None:
        more = runtime.poll(now_s)
        self.inbox.drain()
        self._manifest(runtime)
        suspected = runtime.order is not None and runtime.order.tier in ("evidence", "canary")
        window_s = min(self._window_s, _SUSPECTED_S) if suspected else self._window_s
        told_s = self._told_s[token]
        if more or runtime.waiting >= _DUE_AT or not 0 <= now_s - told_s < window_s:
            self._tell(token, runtime, now_s)
        control = self._controls.get(runtime.about.instance)
        if now_s - told_s >= window_s or control is not self._obeyed.get(token) or runtime.order is None:
            self._order(token, runtime, now_s)
        if self._routes is not None:
            self._route(runtime, self._routes, now_s)

    def _route(self, runtime: WatchedRuntime, routes: Routes, now_s: float) -> None:
        """Show the decision that holds; a lease that was shown ends by itself, whatever becomes of this agent."""
        about = runtime.about
        route = routes.of(about.service, about.instance, now_s)
        if route is None and not self._routes_loaded():
            return
        runtime.show_route(route or NOWHERE)

    def _tell(self, token: str, runtime: WatchedRuntime, now_s: float, ended: str = "") -> None:
        before_s, samples = runtime.told_until_s, runtime.samples
        made = runtime.messages(self.inbox, ended=ended)
        if self._gpu is not None and runtime.about.gpu:
            counters = self._gpu.between(runtime.about.gpu, before_s, made[-1].window_end_s)
            made[-1] = msgspec.structs.replace(made[-1], counters=counters)
        for message in made:
            self._sink.offer(PROFILES, message.instance.encode(), encode(message))
            self.executions += len(message.end_to_end_ms) // 4
        self.messages += len(made)
        self.samples += runtime.samples - samples
        took_s = now_s - self._told_s[token]
        if took_s > 0:
            rate = (runtime.executions - self._counted[token]) / took_s
            runtime.executions_per_s += (rate - runtime.executions_per_s) * min(1.0, took_s / 10)
        self._told_s[token], self._counted[token] = now_s, runtime.executions

    def _order(self, token: str, runtime: WatchedRuntime, now_s: float) -> None:
        """At once when it changes, and renewed with each window, so that it lapses when this agent is gone."""
        control = self._controls.get(runtime.about.instance)
        self._obeyed[token] = control
        if control is not None and control.service != runtime.about.service:
            control = None
        runtime.write_order(
            sampling(
                control,
                now_s=now_s,
                relative_cost=runtime.cost.relative(),
                executions_per_s=runtime.executions_per_s,
                **self._ceilings,
            )
        )

    def _manifest(self, runtime: WatchedRuntime) -> None:
        """Each build's once, and again when more of it is known."""
        found = runtime.new_manifest()
        if found is None:
            return
        known = self._engines.get(found.engine)
        if known is not None:
            more = {p.profile: p for p in known.profiles} | {p.profile: p for p in found.profiles}
            found = msgspec.structs.replace(found, profiles=[more[number] for number in sorted(more)])
        if found != known:
            self._engines[found.engine] = found
            self._sink.offer(ENGINES, manifest_key(found).encode(), encode(found))

    def _scan(self, now_s: float) -> None:
        for token, runtime in list(self.runtimes.items()):
            if runtime.has_ended():
                self._end(token, runtime, now_s)
        for about in self._folder.glob(f"[!.]*/{ABOUT_NAME}"):
            token = about.parent.name
            if token in self.runtimes or token in self.refused:
                continue
            try:
                self.runtimes[token] = WatchedRuntime(about.parent, now_s)
            except (OSError, ValueError, InvalidRecord) as error:
                self._refuse(token, error)
                continue
            self._told_s[token], self._counted[token] = now_s, 0
            _log.info("runtime %s of %s has come", self.runtimes[token].about.instance, about.parent)
        self.refused = {token: why for token, why in self.refused.items() if (self._folder / token).exists()}

    def _end(self, token: str, runtime: WatchedRuntime, now_s: float) -> None:
        state = "leaving" if runtime.said_goodbye() else "crashed"
        try:
            while runtime.poll(now_s):
                self.inbox.drain()
                self._tell(token, runtime, now_s)
            self.inbox.drain()
            self._manifest(runtime)
            self._tell(token, runtime, now_s, ended=state)
        except (OSError, InvalidRecord) as error:
            _log.warning("the last records of %s cannot be read: %s", runtime.about.instance, error)
        _log.info("runtime %s is gone: %s", runtime.about.instance, state)
        self.ended[state] += 1
        self._forget(token)
        runtime.remove()
        if runtime.folder.exists():
            self.refused[token] = "the runtime is gone, and its folder cannot be removed"

    def _refuse(self, token: str, error: Exception) -> None:
        _log.warning("the runtime in %s cannot be watched: %s", self._folder / token, error)
        self.refused[token] = str(error)
        if token in self.runtimes:
            self.runtimes[token].close()
            self._forget(token)

    def _forget(self, token: str) -> None:
        runtime = self.runtimes.pop(token)
        self.past.update(runtime.counters)
        self.past_lost.update(runtime.lost())
        self.inbox.forget(runtime.token)
        self._obeyed.pop(token, None)
        del self._told_s[token], self._counted[token]
