"""What the probe uses of TensorRT and CUDA, so that it can be driven where there is neither."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol


class Context(Protocol):
    """Of `tensorrt.IExecutionContext`, 8.6 to 11."""

    profiler: Any
    enqueue_emits_profile: bool

    @property
    def active_optimization_profile(self) -> int: ...
    def get_tensor_shape(self, name: str) -> Sequence[int]: ...
    def get_tensor_address(self, name: str) -> int: ...
    def set_tensor_address(self, name: str, address: int) -> bool: ...
    def set_input_shape(self, name: str, shape: Sequence[int]) -> bool: ...
    def set_optimization_profile_async(self, profile: int, stream: int) -> bool: ...
    def execute_async_v3(self, stream: int) -> bool: ...
    def report_to_profiler(self) -> bool: ...


class Engine(Protocol):
    """Of `tensorrt.ICudaEngine`, 8.6 to 11."""

    @property
    def num_io_tensors(self) -> int: ...
    @property
    def num_optimization_profiles(self) -> int: ...
    def get_tensor_name(self, index: int) -> str: ...
    def get_tensor_mode(self, name: str) -> Any: ...
    def get_tensor_shape(self, name: str) -> Sequence[int]: ...
    def get_tensor_profile_shape(self, name: str, profile: int) -> Sequence[Sequence[int]]:
        """Least, usual and largest."""
        ...

    def create_execution_context(self) -> Context | None: ...
    def create_engine_inspector(self) -> Any: ...


class Device(NamedTuple):
    """The current GPU."""

    uuid: str  # as NVML names it
    model: str


class Cuda(Protocol):
    """Of the CUDA driver; every call is for the calling thread's context. Errors are OSError."""

    def device(self) -> Device: ...

    def free_bytes(self) -> int:
        """Device memory that is free."""

    def is_capturing(self, stream: int) -> bool:
        """Whether the stream records a graph. Keeps the interpreter lock."""

    def is_idle(self, stream: int) -> bool:
        """Whether all work of the stream is done. Keeps the interpreter lock: giving it up can cost 5 ms to get it back."""

    def wait(self, stream: int) -> None:
        """Until all work of the stream is done. Releases the interpreter lock."""

    def new_byte(self) -> int:
        """Address of a byte of device memory, for `settle`."""

    def settle(self, stream: int, byte: int) -> None:
        """Of a stream that is idle: have the driver know that all its events are over, by setting `byte`. Keeps the lock.

        Otherwise it looks at each event on its own where copies or other executions came after it: 5 instead of 1.6 us a
        layer (TensorRT 8.6, driver 580, H200: `tests/gpu/sample_cost.py`).
        """

    def new_event(self) -> int: ...

    def record(self, event: int, stream: int) -> None:
        """Keeps the interpreter lock."""

    def is_done(self, event: int) -> bool:
        """Keeps the interpreter lock."""

    def elapsed_ms(self, start: int, stop: int) -> float: ...
