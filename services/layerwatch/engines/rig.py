"""An engine with a context, a stream and buffers of its own, so that it can be run without the caller's program."""

from __future__ import annotations

import ctypes
import random
from array import array
from collections.abc import Mapping, Sequence
from typing import Any

from layerwatch.engines.driver import Driver
from layerwatch.probe import Probe
from layerwatch.schemas.errors import ConfigError

_WARM_UP = 50
#: Numbers that inputs are filled with, again and again.
_PATTERN = 4096

Shapes = Mapping[str, Sequence[int]]


class Rig:
    """`prepare` before all else. Inputs hold small numbers; each run copies them in and the results out, and waits."""

    def __init__(self, cuda: Driver, engine: Any, trt: Any) -> None:
        self.cuda, self.engine = cuda, engine
        self.stream = cuda.stream()
        self.context = engine.create_execution_context()
        names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        self.inputs = [n for n in names if engine.get_tensor_mode(n) == trt.TensorIOMode.INPUT]
        self.outputs = [n for n in names if n not in self.inputs]
        self.size: dict[str, int] = {}
        self.device: dict[str, int] = {}
        self.host: dict[str, int] = {}
        self.graph = 0
        self.shapes: dict[str, tuple[int, ...]] = {}
        self._room: dict[str, int] = {}
        self._trt = trt

    def usual_shapes(self, profile: int) -> dict[str, tuple[int, ...]]:
        """Of the inputs: what the profile was built for."""
        return {
            name: tuple(self.engine.get_tensor_profile_shape(name, profile)[1])
            if any(d < 0 for d in self.engine.get_tensor_shape(name))
            else tuple(self.engine.get_tensor_shape(name))
            for name in self.inputs
        }

    def prepare(self, shapes: Shapes, profile: int = 0) -> None:
        """Set shapes and profile, fill the inputs, run some times, and capture the graph. Raises ConfigError."""
        if self.context.active_optimization_profile != profile:
            self.context.set_optimization_profile_async(profile, self.stream)
            self.cuda.synchronize(self.stream)
        self.shapes = {name: tuple(dims) for name, dims in shapes.items()}
        for name, dims in self.shapes.items():
            if not self.context.set_input_shape(name, dims):
                raise ConfigError(f"profile {profile} has no room for {name} {dims}: name another shape")
        for name in (*self.inputs, *self.outputs):
            dims = tuple(self.context.get_tensor_shape(name))
            if any(d < 0 for d in dims):
                raise ConfigError(
                    f"the size of {name} {dims} depends on the data: such engines cannot be run here"
                )
            self._make_room(name, self.engine.get_tensor_dtype(name).itemsize * self._trt.volume(dims))
        for name in self.inputs:
            self._fill(name)
        for _ in range(_WARM_UP):
            self.plain(graph=False)
        if self.graph:
            self.cuda.destroy_graph(self.graph)
        self.graph = self.cuda.capture(self.stream, lambda: self.context.execute_async_v3(self.stream))

    def copy_in(self) -> None:
        for name in self.inputs:
            self.cuda.to_device(self.device[name], self.host[name], self.size[name], self.stream)

    def copy_out(self) -> None:
        for name in self.outputs:
            self.cuda.to_host(self.host[name], self.device[name], self.size[name], self.stream)

    def plain(self, *, graph: bool) -> None:
        self.copy_in()
        if graph:
            self.cuda.launch(self.graph, self.stream)
        else:
            self.context.execute_async_v3(self.stream)
        self.copy_out()
        self.cuda.synchronize(self.stream)

    def probed(self, probe: Probe, *, graph: bool) -> None:
        with probe.execution(self.context, self.stream, self.shapes, graph=graph) as run:
            self.copy_in()
            if graph and not run.sampled:
                self.cuda.launch(self.graph, self.stream)
            else:
                run.context.execute_async_v3(self.stream)
            self.copy_out()
            run.launched()
            self.cuda.synchronize(self.stream)

    def spoil(self) -> None:
        """Overwrite the results, so that only a new execution can give them again."""
        for name in self.outputs:
            ctypes.memset(self.host[name], 0xA5, self.size[name])
            self.cuda.to_device(self.device[name], self.host[name], self.size[name], self.stream)
        self.cuda.synchronize(self.stream)

    def results(self) -> bytes:
        return b"".join(ctypes.string_at(self.host[name], self.size[name]) for name in self.outputs)

    def _make_room(self, name: str, size: int) -> None:
        """Buffers only grow; TensorRT is told where they are."""
        if self._room.get(name, -1) < size:
            self.device[name] = self.cuda.allocate(max(size, 1))
            self.host[name] = self.cuda.allocate_host(max(size, 1))
            self._room[name] = size
        self.context.set_tensor_address(name, self.device[name])
        self.size[name] = size

    def _fill(self, name: str) -> None:
        """Floats in 0..1, other numbers 0..3."""
        kind, rng = self.engine.get_tensor_dtype(name), random.Random(1)
        if kind == self._trt.DataType.FLOAT:
            pattern = array("f", [rng.random() for _ in range(_PATTERN)]).tobytes()
        elif kind == self._trt.DataType.HALF:
            pattern = array("H", rng.choices((0x0000, 0x3000, 0x3800, 0x3C00), k=_PATTERN)).tobytes()
        else:
            width = kind.itemsize
            pattern = b"".join(rng.randrange(4).to_bytes(width, "little") for _ in range(_PATTERN))
        size = self.size[name]
        whole = (pattern * (size // len(pattern) + 1))[:size]
        ctypes.memmove(self.host[name], whole, size)
