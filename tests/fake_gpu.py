"""A process in which there seems to be a GPU with TensorRT: `fake_tensorrt` under the names that programs import.

Device memory is host memory, a graph is the work that it was captured from; nothing takes time.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from fake_tensorrt import FakeCuda, FakeEngine, trt

from layerwatch.engines import driver
from layerwatch.probe import Probe, cuda


class FakeDriver:
    """Stands for `driver.Driver`; all of them are the one GPU `cuda`."""

    cuda = FakeCuda()

    def __init__(self) -> None:
        self._kept: list[object] = []

    def model(self) -> str:
        return self.cuda.device().model

    def allocate(self, size: int) -> int:
        made = ctypes.create_string_buffer(size)
        self._kept.append(made)
        return ctypes.addressof(made)

    allocate_host = allocate

    def used_bytes(self) -> int:
        return 1 << 30

    def free_bytes(self) -> int:
        return self.cuda.free_bytes()

    def stream(self) -> int:
        return 7

    def to_device(self, device: int, host: int, size: int, stream: int) -> None:
        ctypes.memmove(device, host, size)

    def to_host(self, host: int, device: int, size: int, stream: int) -> None:
        ctypes.memmove(host, device, size)

    def synchronize(self, stream: int) -> None:
        self.cuda.finish(stream)

    def capture(self, stream: int, work: Callable[[], object]) -> int:
        work()
        self._kept.append(work)
        return len(self._kept)

    def launch(self, graph: int, stream: int) -> None:
        work = self._kept[graph - 1]
        assert callable(work)
        work()

    def destroy_graph(self, graph: int) -> None:
        self._kept[graph - 1] = None


@contextmanager
def fake_gpu(patch: pytest.MonkeyPatch, folder: Path, *, profiles: int = 1) -> Iterator[list[FakeEngine]]:
    """Every plan is a FakeEngine with so many profiles; probes use `folder`. Gives the engines that were loaded."""
    loaded: list[FakeEngine] = []
    gpu = FakeCuda()

    def deserialize(data: bytes) -> FakeEngine | None:
        if data != b"plan":
            return None
        loaded.append(FakeEngine(gpu, profiles=profiles))
        return loaded[-1]

    module = ModuleType("tensorrt")
    module.__dict__.update(vars(trt))
    module.__dict__["Logger"] = type("Logger", (), {"ERROR": 1, "__init__": lambda self, level: None})
    module.__dict__["Runtime"] = lambda log: SimpleNamespace(deserialize_cuda_engine=deserialize)
    patch.setitem(sys.modules, "tensorrt", module)
    patch.setattr(FakeDriver, "cuda", gpu)
    patch.setattr(driver, "Driver", FakeDriver)
    patch.setattr(cuda, "CudaDriver", lambda: gpu)
    defaults = Probe.__init__.__kwdefaults__
    assert defaults is not None
    patch.setitem(defaults, "folder", str(folder))
    yield loaded
    broken = [rule for engine in loaded for rule in engine.broken_rules]
    assert not broken, broken
