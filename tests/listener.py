"""An agent's end of a shared folder, as plain as can be: what a runtime left there, and what it sent."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

from layerwatch.schemas import control_page, ring
from layerwatch.schemas.codec import Reader
from layerwatch.schemas.control_page import Route, Sampling
from layerwatch.schemas.engines import Manifest
from layerwatch.schemas.ring import Execution
from layerwatch.schemas.runtimes import MANIFEST_NAME, RUNTIME_READER, SOCKET_NAME, Runtime
from layerwatch.schemas.samples import LayerSample, decode_sample


class Listener:
    """Bound to the folder's socket while it is open."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(folder / SOCKET_NAME))
        self._socket.setblocking(False)
        self._generation = 0

    def samples(self) -> list[LayerSample]:
        """All that has come since the last call."""
        found = []
        while True:
            try:
                found.append(decode_sample(self._socket.recv(1 << 20)))
            except BlockingIOError:
                return found

    def runtimes(self) -> list[Path]:
        return sorted(path.parent for path in self.folder.glob("[!.]*/runtime.json"))

    def about(self, runtime: Path | None = None) -> Runtime:
        return RUNTIME_READER.decode(((runtime or self.runtimes()[0]) / "runtime.json").read_bytes())

    def manifest(self) -> Manifest:
        return Reader(Manifest).decode((self.runtimes()[0] / MANIFEST_NAME).read_bytes())

    def executions(self, number: int = 0) -> list[Execution]:
        """What a ring of the first runtime holds, in order."""
        data = (self.runtimes()[0] / f"ring-{number:03d}").read_bytes()
        header = ring.decode_header(data[: ring.HEADER_BYTES], len(data))
        written = ring.decode_u64(data, ring.WRITTEN_OFFSET)
        found = []
        for position in range(max(0, written - header.capacity), written):
            start = ring.HEADER_BYTES + (position % header.capacity) * ring.RECORD_BYTES
            execution = ring.decode_execution(data[start : start + ring.RECORD_BYTES])
            assert execution is not None
            assert execution.position == position
            found.append(execution)
        return found

    def state(self, runtime: Path | None = None) -> int:
        page = ((runtime or self.runtimes()[0]) / "control").read_bytes()
        return control_page.decode_state(page).state

    def order(self, tier: str, rate: float, for_s: float = 60.0) -> None:
        """Write the page of every runtime."""
        self._generation += 1
        data = control_page.encode_sampling(self._generation, Sampling(tier, rate, time.time() + for_s))
        for runtime in self.runtimes():
            fd = os.open(runtime / "control", os.O_RDWR)
            os.pwrite(fd, data, control_page.SAMPLING_OFFSET)
            os.close(fd)

    def route(self, action: str, engine: str = "", for_s: float = 60.0, decision: str = "d1") -> None:
        """Write the page of every runtime."""
        self._generation += 1
        route = Route(action, engine, time.time() + for_s, 1, decision)
        data = control_page.encode_route(self._generation, route)
        for runtime in self.runtimes():
            fd = os.open(runtime / "control", os.O_RDWR)
            os.pwrite(fd, data, control_page.ROUTE_OFFSET)
            os.close(fd)

    def close(self) -> None:
        self._socket.close()

    def layer_times(self, sample: LayerSample) -> list[float]:
        return list(memoryview(sample.times_ms).cast("f"))
