"""The control page on the runtime's side. Format: `layerwatch.schemas.control_page`."""

from __future__ import annotations

import time
from pathlib import Path

from layerwatch.probe.ring_writer import map_whole
from layerwatch.schemas.control_page import (
    PAGE_BYTES,
    SAMPLING_BYTES,
    SAMPLING_OFFSET,
    STATE_OFFSET,
    State,
    decode_sampling,
    encode_page,
    encode_state,
)
from layerwatch.schemas.ring import encode_u64

#: Where in `Page.words` the generation of the sampling order is.
GENERATION = SAMPLING_OFFSET // 4


class Page:
    """Says at which rate to sample; raises OSError where the file cannot be made.

    `baseline_rate` holds while nobody orders anything, and again from the moment at which an order expires.
    """

    def __init__(self, path: Path, token: bytes, baseline_rate: float) -> None:
        self.baseline_rate = baseline_rate
        self.tier = "baseline"
        self._map = map_whole(path, encode_page(token), PAGE_BYTES)
        self.words = memoryview(self._map).cast("I")
        self.generation = 0  # of the order that holds; another one in `words`: an order has come
        self._rate = baseline_rate
        self._expires_ns = 0  # on perf_counter's clock

    def rate(self, now_ns: int) -> float:
        """Share of executions to sample; `now_ns` is perf_counter's. No system call."""
        if self.words[GENERATION] != self.generation:
            self._look(now_ns)
        if now_ns < self._expires_ns:
            return self._rate
        if self._expires_ns:
            self._expires_ns, self.tier = 0, "baseline"
        return self.baseline_rate

    def tell(self, state: State) -> None:
        self._map[STATE_OFFSET : STATE_OFFSET + 16] = encode_state(state)

    def tell_device_bytes(self, taken: int) -> None:
        """What twins have taken so far."""
        self._map[STATE_OFFSET + 8 : STATE_OFFSET + 16] = encode_u64(taken)

    def _look(self, now_ns: int) -> None:
        found = decode_sampling(self._map[SAMPLING_OFFSET : SAMPLING_OFFSET + SAMPLING_BYTES])
        if found is None:  # being written just now, or nonsense: the former order holds until it expires
            return
        self.generation, sampling = found
        self._rate = sampling.rate if sampling.tier != "off" else 0.0
        left_s = min(max(sampling.expires_s - time.time(), 0.0), 1e6)
        self._expires_ns = now_ns + int(left_s * 1e9)
        self.tier = sampling.tier
