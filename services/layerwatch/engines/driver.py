"""What measurements and examples need of CUDA beyond the probe's own calls: memory, streams, copies, graphs; by ctypes on libcuda."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from ctypes import byref, c_char_p, c_int, c_size_t, c_uint64, c_ulonglong, c_void_p, create_string_buffer


class Driver:
    """The primary context of device 0, current in the thread that makes it. Raises RuntimeError with CUDA's own words, OSError without a driver."""

    def __init__(self) -> None:
        self._cuda = ctypes.CDLL("libcuda.so.1")
        self._call("cuInit", 0)
        device, context = c_int(), c_void_p()
        self._call("cuDeviceGet", byref(device), 0)
        self._device = device
        self._call("cuDevicePrimaryCtxRetain", byref(context), device)
        self._call("cuCtxSetCurrent", context)

    def model(self) -> str:
        """Of the GPU."""
        name = create_string_buffer(256)
        self._call("cuDeviceGetName", name, 256, self._device)
        return name.value.decode(errors="replace")

    def allocate(self, size: int) -> int:
        address = c_uint64()
        self._call("cuMemAlloc_v2", byref(address), c_size_t(size))
        return address.value

    def allocate_host(self, size: int) -> int:
        """Pinned."""
        address = c_void_p()
        self._call("cuMemAllocHost_v2", byref(address), c_size_t(size))
        return address.value or 0

    def free(self, address: int) -> None:
        """Of `allocate`."""
        self._call("cuMemFree_v2", c_uint64(address))

    def used_bytes(self) -> int:
        free, total = self._memory()
        return total - free

    def free_bytes(self) -> int:
        return self._memory()[0]

    def _memory(self) -> tuple[int, int]:
        free, total = c_size_t(), c_size_t()
        self._call("cuMemGetInfo_v2", byref(free), byref(total))
        return free.value, total.value

    def stream(self) -> int:
        made = c_void_p()
        self._call("cuStreamCreate", byref(made), 1)  # not synchronizing with the legacy stream
        return made.value or 0

    def to_device(self, device: int, host: int, size: int, stream: int) -> None:
        self._call("cuMemcpyHtoDAsync_v2", c_uint64(device), c_void_p(host), c_size_t(size), c_void_p(stream))

    def to_host(self, host: int, device: int, size: int, stream: int) -> None:
        self._call("cuMemcpyDtoHAsync_v2", c_void_p(host), c_uint64(device), c_size_t(size), c_void_p(stream))

    def synchronize(self, stream: int) -> None:
        self._call("cuStreamSynchronize", c_void_p(stream))

    def capture(self, stream: int, work: Callable[[], object]) -> int:
        """A graph of what `work` enqueues on the stream, ready to be launched."""
        graph, executable = c_void_p(), c_void_p()
        self._call("cuStreamBeginCapture_v2", c_void_p(stream), 2)  # relaxed
        work()
        self._call("cuStreamEndCapture", c_void_p(stream), byref(graph))
        self._call("cuGraphInstantiateWithFlags", byref(executable), graph, c_ulonglong(0))
        return executable.value or 0

    def destroy_graph(self, graph: int) -> None:
        self._call("cuGraphExecDestroy", c_void_p(graph))

    def launch(self, graph: int, stream: int) -> None:
        self._call("cuGraphLaunch", c_void_p(graph), c_void_p(stream))

    def _call(self, name: str, *args: object) -> None:
        status = getattr(self._cuda, name)(*args)
        if status:
            text = c_char_p()
            self._cuda.cuGetErrorString(status, byref(text))
            raise RuntimeError(f"{name}: {(text.value or b'unknown error').decode()}")
