"""The CUDA driver by ctypes: no package is needed, since `libcuda` is wherever TensorRT runs.

What only looks is called with the interpreter lock held (PyDLL): after giving it up, a thread waits up to 5 ms for it while
another one computes. What waits for the GPU gives it up (CDLL).
"""

from __future__ import annotations

import ctypes
import uuid
from ctypes import byref, c_char_p, c_float, c_int, c_size_t, c_ubyte, c_uint64, c_void_p

from layerwatch.probe.interfaces import Device

_LIBRARY = "libcuda.so.1"
_NOT_READY = 600  # CUDA_ERROR_NOT_READY of cuda.h
_NAME_BYTES = 256
#: A byte is set within 15 us; to wait for it with the lock held could be for ever, if another thread uses the stream, too.
_SETTLE_LOOKS = 100


class CudaDriver:
    """`interfaces.Cuda`; raises OSError where there is no driver."""

    def __init__(self) -> None:
        self._quick = ctypes.PyDLL(_LIBRARY)
        self._slow = ctypes.CDLL(_LIBRARY)
        self._quick.cuStreamQuery.argtypes = [c_void_p]
        self._quick.cuStreamIsCapturing.argtypes = [c_void_p, c_void_p]
        self._quick.cuEventRecord.argtypes = [c_void_p, c_void_p]
        self._quick.cuEventQuery.argtypes = [c_void_p]
        self._quick.cuEventElapsedTime.argtypes = [c_void_p, c_void_p, c_void_p]
        self._quick.cuMemsetD8Async.argtypes = [c_uint64, c_ubyte, c_size_t, c_void_p]
        self._slow.cuStreamSynchronize.argtypes = [c_void_p]

    def device(self) -> Device:
        number = self._device()
        name = ctypes.create_string_buffer(_NAME_BYTES)
        self._check(self._slow.cuDeviceGetName(name, _NAME_BYTES, number), "cuDeviceGetName")
        raw = (ctypes.c_ubyte * 16)()
        # The second version names the MIG instance where there is one; drivers before 11.4 lack it.
        get_uuid = getattr(self._slow, "cuDeviceGetUuid_v2", self._slow.cuDeviceGetUuid)
        self._check(get_uuid(raw, number), "cuDeviceGetUuid")
        model = name.value.decode(errors="replace")
        kind = "MIG" if " MIG " in model else "GPU"
        return Device(f"{kind}-{uuid.UUID(bytes=bytes(raw))}", model)

    def _device(self) -> c_int:
        """Of this thread; where it has none yet, the only one there is."""
        number, count = c_int(), c_int()
        status = self._slow.cuCtxGetDevice(byref(number))
        if status and not self._slow.cuInit(0):
            self._check(self._slow.cuDeviceGetCount(byref(count)), "cuDeviceGetCount")
            if count.value == 1:
                status = self._slow.cuDeviceGet(byref(number), 0)
        self._check(status, "cuCtxGetDevice: make the probe in a thread that has used the GPU")
        return number

    def free_bytes(self) -> int:
        free, total = c_size_t(), c_size_t()
        self._check(self._slow.cuMemGetInfo_v2(byref(free), byref(total)), "cuMemGetInfo")
        return free.value

    def is_capturing(self, stream: int) -> bool:
        status = c_int()
        self._check(self._quick.cuStreamIsCapturing(stream, byref(status)), "cuStreamIsCapturing")
        return status.value != 0

    def is_idle(self, stream: int) -> bool:
        return self._is_ready(self._quick.cuStreamQuery(stream), "cuStreamQuery")

    def wait(self, stream: int) -> None:
        self._check(self._slow.cuStreamSynchronize(stream), "cuStreamSynchronize")

    def new_byte(self) -> int:
        address = c_uint64()
        self._check(self._slow.cuMemAlloc_v2(byref(address), c_size_t(1)), "cuMemAlloc")
        return address.value

    def settle(self, stream: int, byte: int) -> None:
        self._check(self._quick.cuMemsetD8Async(byte, 0, 1, stream), "cuMemsetD8Async")
        for _ in range(_SETTLE_LOOKS):
            if self.is_idle(stream):
                break

    def new_event(self) -> int:
        event = c_void_p()
        self._check(self._slow.cuEventCreate(byref(event), 0), "cuEventCreate")
        return event.value or 0

    def record(self, event: int, stream: int) -> None:
        self._check(self._quick.cuEventRecord(event, stream), "cuEventRecord")

    def is_done(self, event: int) -> bool:
        return self._is_ready(self._quick.cuEventQuery(event), "cuEventQuery")

    def elapsed_ms(self, start: int, stop: int) -> float:
        ms = c_float()
        self._check(self._quick.cuEventElapsedTime(byref(ms), start, stop), "cuEventElapsedTime")
        return ms.value

    def _is_ready(self, status: int, call: str) -> bool:
        if status == _NOT_READY:
            return False
        self._check(status, call)
        return True

    def _check(self, status: int, call: str) -> None:
        if status:
            text = c_char_p()
            self._slow.cuGetErrorString(status, byref(text))
            raise OSError(status, f"{call}: {(text.value or b'unknown error').decode()}")
