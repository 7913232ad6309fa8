"""The control page on the runtime's side. Format: `layerwatch.schemas.control_page`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import NamedTuple

from layerwatch.probe.ring_writer import map_whole
from layerwatch.schemas.control_page import (
    PAGE_BYTES,
    ROUTE_BYTES,
    ROUTE_OFFSET,
    SAMPLING_BYTES,
    SAMPLING_OFFSET,
    STATE_OFFSET,
    Route,
    State,
    decode_route,
    decode_sampling,
    encode_page,
    encode_state,
)
from layerwatch.schemas.ring import encode_u64

_GENERATION = SAMPLING_OFFSET // 4
_ROUTE_GENERATION = ROUTE_OFFSET // 4


class _Routed(NamedTuple):
    """A route as it was read, and when it ends on perf_counter's clock."""

    generation: int
    route: Route | None
    expires_ns: int


class Page:
    """Says at which rate to sample; raises OSError where the file cannot be made.

    `baseline_rate` holds while nobody orders anything, and again from the moment at which an order expires.
    """

    def __init__(self, path: Path, token: bytes, baseline_rate: float) -> None:
        self.baseline_rate = baseline_rate
        self.tier = "baseline"
        self.map = map_whole(path, encode_page(token), PAGE_BYTES)
        self._words = memoryview(self.map).cast("I")
        self.generation = 0  # of the order that holds; `ordered` is another one: an order has come
        self.expires_ns = 0  # when it ends, on perf_counter's clock; 0: there is none
        self._rate = baseline_rate
        self._routed = _Routed(0, None, 0)  # replaced as a whole: threads see the former or the latter

    @property
    def ordered(self) -> int:
        """Generation of the order that is on the page."""
        return self._words[_GENERATION]

    def rate(self, now_ns: int) -> float:
        """Share of executions to sample; `now_ns` is perf_counter's. No system call."""
        if self.ordered != self.generation:
            self._look(now_ns)
        if now_ns < self.expires_ns:
            return self._rate
        if self.expires_ns:
            self.expires_ns, self.tier = 0, "baseline"
        return self.baseline_rate

    def route(self, now_ns: int) -> Route | None:
        """The decision that holds; None without one. `now_ns` is perf_counter's. No system call."""
        routed = self._routed
        if self._words[_ROUTE_GENERATION] != routed.generation:
            routed = self._look_for_route(now_ns)
        return routed.route if now_ns < routed.expires_ns else None

    def _look_for_route(self, now_ns: int) -> _Routed:
        found = decode_route(self.map[ROUTE_OFFSET : ROUTE_OFFSET + ROUTE_BYTES])
        if found is None:  # being written just now, or nonsense: the former one holds until it expires
            return self._routed
        generation, route = found
        left_s = min(max(route.expires_s - time.time(), 0.0), 1e6)
        routed = self._routed = _Routed(generation, route, now_ns + int(left_s * 1e9))
        return routed

    def tell(self, state: State) -> None:
        self.map[STATE_OFFSET : STATE_OFFSET + 16] = encode_state(state)

    def tell_device_bytes(self, taken: int) -> None:
        """What twins have taken so far."""
        self.map[STATE_OFFSET + 8 : STATE_OFFSET + 16] = encode_u64(taken)

    def _look(self, now_ns: int) -> None:
        found = decode_sampling(self.map[SAMPLING_OFFSET : SAMPLING_OFFSET + SAMPLING_BYTES])
        if found is None:  # being written just now, or nonsense: the former order holds until it expires
            return
        self.generation, sampling = found
        self._rate = sampling.rate if sampling.tier != "off" else 0.0
        left_s = min(max(sampling.expires_s - time.time(), 0.0), 1e6)
        self.expires_ns = now_ns + int(left_s * 1e9)
        self.tier = sampling.tier
