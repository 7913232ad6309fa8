"""A fake of what the probe uses of TensorRT and CUDA: no GPU, no timing of its own; it keeps TensorRT's rules and says
when they are broken. The code that it drives is the probe's real code."""

from __future__ import annotations

import json
import math
import threading
import time
from collections import Counter
from collections.abc import Sequence
from enum import Enum
from types import SimpleNamespace
from typing import Any

from layerwatch.probe.interfaces import Device

LAYERS = 12


class _Profiler:
    """As pybind's trampoline: reached by name, its exceptions swallowed."""

    def report_layer_time(self, layer_name: str, ms: float) -> None:
        raise NotImplementedError


class _Mode(Enum):
    INPUT = 1
    OUTPUT = 2


class _Type(Enum):
    FLOAT = 0
    HALF = 1
    INT32 = 3

    @property
    def itemsize(self) -> int:
        return 2 if self is _Type.HALF else 4


trt = SimpleNamespace(
    DataType=_Type,
    volume=math.prod,
    __version__="10.0.0-fake",
    IProfiler=_Profiler,
    TensorIOMode=_Mode,
    LayerInformationFormat=SimpleNamespace(JSON="json"),
    ProfilingVerbosity=SimpleNamespace(NONE=0),
)


#: In which two contexts may have the same profile only if their engine was built so.
trt_8 = SimpleNamespace(**vars(trt) | {"__version__": "8.6.0-fake"})


class FakeCuda:
    """Streams with work until it is waited for, or `finish` is called. Memory is a dictionary by address."""

    def __init__(self, *, free_bytes: int = 8 << 30, slow_ms: float = 0.0) -> None:
        self.memory: dict[int, Any] = {}
        self.busy: set[int] = set()
        self.finished: Counter[int] = Counter()  # how often a stream was found to have nothing left
        self.capturing: set[int] = set()
        self.gone: set[int] = set()  # streams that were destroyed
        self.waits = self.settled = 0
        self.slow_ms = slow_ms  # of a wait
        self._free_bytes = free_bytes
        self._events: dict[int, tuple[int, float, bool]] = {}

    def device(self) -> Device:
        return Device("GPU-fake", "Fake H200")

    def free_bytes(self) -> int:
        return self._free_bytes

    def is_capturing(self, stream: int) -> bool:
        return stream in self.capturing

    def is_idle(self, stream: int) -> bool:
        return stream not in self.busy

    def wait(self, stream: int) -> None:
        self.waits += 1
        time.sleep(self.slow_ms / 1e3)
        self.finish(stream)

    def finish(self, stream: int) -> None:
        self.busy.discard(stream)
        self.finished[stream] += 1

    def new_byte(self) -> int:
        return 1

    def settle(self, stream: int, byte: int) -> None:
        assert byte == 1, "no byte of device memory"
        assert stream not in self.busy, "a wait with the lock held"
        self.settled += 1

    def new_event(self) -> int:
        self._events[len(self._events) + 1] = (0, 0.0, False)
        return len(self._events)

    def record(self, event: int, stream: int) -> None:
        self._events[event] = (stream, time.perf_counter(), True)

    def is_done(self, event: int) -> bool:
        return self._events[event][0] not in self.busy

    def elapsed_ms(self, start: int, stop: int) -> float:
        return 1e3 * (self._events[stop][1] - self._events[start][1])


class FakeContext:
    """Its output is its input and one; each layer takes 0.01 ms and its number in thousandths."""

    def __init__(self, engine: FakeEngine, profile: int) -> None:
        self.engine = engine
        self.profiler: Any = None
        self.enqueue_emits_profile = True
        self.active_optimization_profile = profile
        self.executions = 0
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}
        self.nvtx_verbosity = 2
        self._unreported = False

    def get_tensor_shape(self, name: str) -> Sequence[int]:
        self._check_alive()
        return self.shapes.get("ids", self.engine.get_tensor_shape(name))

    def get_tensor_address(self, name: str) -> int:
        self._check_alive()
        return self.addresses.get(name, 0)

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return True

    def set_input_shape(self, name: str, shape: Sequence[int]) -> bool:
        self.shapes[name] = tuple(shape)
        return not self.engine.refuses_shapes

    def set_optimization_profile_async(self, profile: int, stream: int) -> bool:
        if not self.engine.shares_profiles and profile in self.engine.profiles_in_use():
            return False
        self.active_optimization_profile = profile
        return True

    def execute_async_v3(self, stream: int) -> bool:
        self._check_alive()
        assert self.active_optimization_profile >= 0, "no profile"
        assert set(self.addresses) == {"ids", "out"}, "an address is missing"
        self.executions += 1
        cuda = self.engine.cuda
        cuda.memory[self.addresses["out"]] = cuda.memory.get(self.addresses["ids"], 0) + 1
        cuda.busy.add(stream)
        self._stream, self._finished_before = stream, cuda.finished[stream]
        self._unreported = self.profiler is not None
        if self.profiler is not None and self.enqueue_emits_profile:
            self.engine.broken_rules.append("an execution was profiled synchronously")
        return True

    def report_to_profiler(self) -> bool:
        if self.profiler is None or not self._unreported or self.engine.reports_nothing:
            return False
        if self._stream in self.engine.cuda.gone:
            self.engine.broken_rules.append("reported after its stream was destroyed: undefined")
        # The events of its layers are waited for, not what the stream was given since: so it was measured with TensorRT 8.6.
        if self.engine.cuda.finished[self._stream] == self._finished_before:
            self.engine.broken_rules.append(
                "reported before its execution was over: a wait with the lock held"
            )
        self._unreported = False
        for number, name in enumerate(self.engine.layer_names(self.active_optimization_profile)):
            self.profiler.report_layer_time(name, 0.01 + number / 1000)
        return True

    def destroy(self) -> None:
        self.engine.contexts.remove(self)

    def _check_alive(self) -> None:
        if self not in self.engine.contexts:
            raise RuntimeError("the context is destroyed")


class FakeEngine:
    """One input `ids` of changing batch and length, one output. `names` False: built with ProfilingVerbosity NONE."""

    num_io_tensors = 2
    device_memory_size = 64 << 20

    def __init__(
        self, cuda: FakeCuda, *, profiles: int = 1, names: bool = True, shares_profiles: bool = True
    ) -> None:
        self.cuda = cuda
        self.num_optimization_profiles = profiles
        self.shares_profiles = shares_profiles
        self.refuses_shapes = self.reports_nothing = self.makes_no_context = False
        self.extra_layers = 0
        self.contexts: list[FakeContext] = []
        self.broken_rules: list[str] = []
        self._names = names
        self._lock = threading.Lock()

    def get_tensor_name(self, index: int) -> str:
        return ("ids", "out")[index]

    def get_tensor_mode(self, name: str) -> Any:
        return _Mode.INPUT if name == "ids" else _Mode.OUTPUT

    def get_tensor_shape(self, name: str) -> Sequence[int]:
        return (-1, -1)

    def get_tensor_profile_shape(self, name: str, profile: int) -> Sequence[Sequence[int]]:
        """Lengths to 128, then 256, and so on."""
        low, high = (1, 128) if profile == 0 else (64 * 2**profile + 1, 128 * 2**profile)
        return ((1, low), (1, high // 2 if profile == 0 else high), (8, high))

    def get_tensor_dtype(self, name: str) -> Any:
        return trt.DataType.INT32

    @property
    def num_layers(self) -> int:
        return sum(len(self.layer_names(profile)) for profile in range(self.num_optimization_profiles))

    def profiles_in_use(self) -> set[int]:
        return {context.active_optimization_profile for context in self.contexts}

    def create_execution_context(self) -> FakeContext | None:
        with self._lock:
            if self.makes_no_context:
                return None
            free = self.shares_profiles or 0 not in self.profiles_in_use()
            self.contexts.append(FakeContext(self, 0 if free else -1))
            return self.contexts[-1]

    def create_engine_inspector(self) -> Any:
        layers = [
            {"Name": name, "LayerType": "Convolution", "Weights": {"Type": "Half", "Count": 1}}
            for profile in range(self.num_optimization_profiles)
            for name in self.layer_names(profile)
        ]
        text = json.dumps({"Layers": layers if self._names else [], "Bindings": []})
        return SimpleNamespace(get_engine_information=lambda kind: text)

    def layer_names(self, profile: int) -> list[str]:
        count = LAYERS + profile + self.extra_layers
        if not self._names:
            return [str(number) for number in range(count)]
        suffix = f" [profile {profile}]" if profile else ""
        return [f"/blocks.{number // 4}/attn/MatMul_{number}{suffix}" for number in range(count)]

    @property
    def executions(self) -> int:
        """Of all contexts together."""
        return sum(context.executions for context in self.contexts)


def hot_context(engine: FakeEngine, shape: tuple[int, int] = (1, 32), profile: int = 0) -> FakeContext:
    """As a caller would prepare one."""
    context = engine.create_execution_context()
    assert context is not None
    context.set_optimization_profile_async(profile, 0)
    context.set_input_shape("ids", shape)
    context.set_tensor_address("ids", 100 + len(engine.contexts))
    context.set_tensor_address("out", 200 + len(engine.contexts))
    return context
