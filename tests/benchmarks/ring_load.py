"""Runtimes without a GPU: rings and datagrams as probes write them, at a given pace. `ring_load.py FOLDER PER_S SECONDS`."""

from __future__ import annotations

import sys
import time
from array import array
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from layerwatch.probe.folder import RuntimeFolder
from layerwatch.probe.page import Page
from layerwatch.probe.ring_writer import RingWriter
from layerwatch.probe.sender import Sender
from layerwatch.probe.usual import Shape
from layerwatch.schemas.control_page import LEAVING, SERVING, State
from layerwatch.schemas.engines import Layer, Manifest, ProfileLayers
from layerwatch.schemas.profiles import ON_TWIN
from layerwatch.schemas.ring import SAMPLED, UNKNOWN_NS, encode_dimensions
from layerwatch.schemas.runtimes import CONTROL_NAME, SOCKET_NAME, Input, Runtime
from layerwatch.schemas.samples import LayerSample, encode_sample

RUNTIMES, THREADS, LAYERS, SAMPLE_EVERY = 4, 2, 150, 100
_TICK_S = 0.005


class Load:
    """One runtime with its threads."""

    def __init__(self, root: Path, number: int) -> None:
        token = bytes([number + 1]) * 16
        self.folder = RuntimeFolder(root, token)
        self.page = Page(self.folder.path / CONTROL_NAME, token, 0.0)
        self.page.tell(State(SERVING, THREADS, 0))
        self.rings = [RingWriter(self.folder.path, n, token) for n in range(THREADS)]
        self.sender = Sender(str(root / SOCKET_NAME))
        engine = f"sha256:bench-{number}"
        layers = [Layer(f"/blocks.{n // 10}/MatMul_{n}") for n in range(LAYERS)]
        self.folder.write_manifest(Manifest(engine=engine, profiles=[ProfileLayers(0, layers)]))
        self.folder.publish(
            Runtime(
                service="bench",
                instance=f"bench-{number}",
                boot_ms=time.time_ns() // 1_000_000,
                engine=engine,
                token=token.hex(),
                inputs=[Input("ids", 2)],
            )
        )
        self.sender.is_connected()
        self.lost = 0
        self._token = token
        self._times_ms = array("f", [0.01] * LAYERS).tobytes()
        self._runs: list[Any] = [
            SimpleNamespace(
                look=SimpleNamespace(profile=0, number=0, shape=Shape(encode_dimensions((b, 32 * n)), None)),
                flags=0,
                since_change=1,
                request_id=0,
            )
            for b in (1, 2, 4, 8)
            for n in range(1, 9)
        ]

    def execute(self, count: int) -> None:
        for _ in range(count):
            ring = self.rings[0]
            self.rings.reverse()
            run = self._runs[ring.position % len(self._runs)]
            run.flags = 0
            if ring.position % SAMPLE_EVERY == 0:
                sample = LayerSample(self._token, ring.number, ring.position, 0, self._times_ms)
                if self.sender.send(encode_sample(sample)) is None:
                    run.flags = ON_TWIN | SAMPLED
                    ring.count("sampled")
                else:
                    self.lost += 1
            ring.write(run, time.time_ns(), 2_000_000 + ring.position % 1000, UNKNOWN_NS)


def main(root: Path, per_s: int, seconds: float) -> None:
    loads = [Load(root, number) for number in range(RUNTIMES)]
    each = int(per_s * _TICK_S / RUNTIMES)
    began_s = time.monotonic()
    for tick in range(int(seconds / _TICK_S)):
        for load in loads:
            load.execute(each)
        left_s = began_s + (tick + 1) * _TICK_S - time.monotonic()
        if left_s > 0:
            time.sleep(left_s)
    took_s = time.monotonic() - began_s
    written = sum(ring.position for load in loads for ring in load.rings)
    for load in loads:
        load.page.tell(State(LEAVING, THREADS, 0))
        load.folder.let_go()
    print(written, round(written / took_s), sum(load.lost for load in loads))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
