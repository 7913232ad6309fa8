"""The profiled twin: a second context of the same engine and profile, which runs what is sampled instead of the hot one.

It is given the caller's own tensor addresses and shapes, so its results are the results and nothing runs twice; the hot
context never carries a profiler, and may be a captured CUDA graph.
"""

from __future__ import annotations

import ctypes
import threading
from array import array
from collections.abc import Sequence
from typing import Any

from layerwatch.probe.interfaces import Context, Engine
from layerwatch.schemas.samples import MAX_LAYERS

#: Device memory that stays free beside a twin, for the caller's own needs (bytes).
HEADROOM_BYTES = 256 << 20

#: Twins are numbered from here among the contexts of a runtime, by their profile.
FIRST_NUMBER = 1 << 31


class TwinRefused(Exception):
    """Raised where there can be no twin; says why and what to do."""


def recorder_class(trt: Any) -> type[Any]:
    """A class of profilers: `times_ms` and, while `naming`, `names`, both in call order."""

    class Recorder(trt.IProfiler):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProfiler.__init__(self)
            self.times_ms = array("f")
            self.names: list[str] = []
            self.naming = True

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            if len(self.times_ms) < MAX_LAYERS:
                self.times_ms.append(ms)
                if self.naming:
                    self.names.append(layer_name)

        def clear(self) -> None:
            self.times_ms = array("f")
            self.names = []

    return Recorder


class Twin:
    """Of one optimization profile. `claim` before all else, `release` in the end: one execution at a time has it."""

    def __init__(self, engine: Engine, trt: Any, recorder: Any, profile: int, stream: int) -> None:
        """Takes device memory. Raises TwinRefused."""
        self.profile = profile
        self._claimed = threading.Lock()
        context = engine.create_execution_context()
        if context is None:
            raise TwinRefused("TensorRT made no second context: its log says why")
        if context.active_optimization_profile != profile and not context.set_optimization_profile_async(
            profile, stream
        ):
            raise TwinRefused(
                f"profile {profile} takes only one context: with TensorRT before 10, build the engine with "
                "PreviewFeature.PROFILE_SHARING_0806"
            )
        if hasattr(context, "nvtx_verbosity"):
            context.nvtx_verbosity = trt.ProfilingVerbosity.NONE
        context.enqueue_emits_profile = False
        context.profiler = recorder
        self.context: Context = context
        self.runs = 0
        self._recorder = recorder
        self._shape = b""
        self._since_change = 0

    def next_run(self, shape: bytes) -> tuple[int, int]:
        """Its number among the contexts, and its executions since its shape changed."""
        self._since_change = self._since_change + 1 if shape == self._shape and self.runs else 0
        self._shape = shape
        self.runs += 1
        return FIRST_NUMBER + self.profile, self._since_change

    def claim(self) -> bool:
        """False where another execution has it; never waits."""
        return self._claimed.acquire(blocking=False)

    def release(self) -> None:
        self._claimed.release()

    def take_over(self, hot: Context, tensors: Sequence[str], inputs: Sequence[str]) -> None:
        """Everything that the hot context would run with; raises RuntimeError where TensorRT refuses it."""
        twin = self.context
        for name in inputs:
            if not twin.set_input_shape(name, hot.get_tensor_shape(name)):
                raise RuntimeError(f"the twin refused the shape of {name}")
        for name in tensors:
            address = hot.get_tensor_address(name)
            if address and not twin.set_tensor_address(name, address):
                raise RuntimeError(f"the twin refused the address of {name}")
        self._copy_rest(hot, set(tensors) - set(inputs))
        self._recorder.clear()

    def report(self) -> tuple[bytes, list[str]] | None:
        """Layer times (float32) of the last execution, and their names while they are asked for; None without any.

        Its GPU work must be done: TensorRT waits here with the interpreter lock held.
        """
        if not self.context.report_to_profiler() or not self._recorder.times_ms:
            return None
        return self._recorder.times_ms.tobytes(), self._recorder.names

    def stop_naming(self) -> None:
        """The names are known: from now on only times are kept."""
        self._recorder.naming = False

    def give_up(self) -> None:
        """Never destroy the context: it may be running while the process ends."""
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self.context))

    def _copy_rest(self, hot: Any, outputs: set[str]) -> None:
        """What only some callers use: allocators of outputs whose size is not known before, and an event of theirs."""
        twin: Any = self.context
        if hasattr(hot, "get_output_allocator"):
            for name in outputs:
                allocator = hot.get_output_allocator(name)
                if allocator is not None:
                    twin.set_output_allocator(name, allocator)
        if hasattr(hot, "get_input_consumed_event"):
            event = hot.get_input_consumed_event()
            if event:
                twin.set_input_consumed_event(event)


def twin_bytes(engine: Any, profile: int) -> int:
    """Device memory that a second context will take at least; 0 where this TensorRT does not say."""
    for name in ("get_device_memory_size_for_profile_v2", "get_device_memory_size_for_profile"):
        if hasattr(engine, name):
            return max(0, int(getattr(engine, name)(profile)))
    for name in ("device_memory_size_v2", "device_memory_size"):
        if hasattr(engine, name):
            return max(0, int(getattr(engine, name)))
    return 0
