"""The GPU's own counters: by NVML and GPM where nvidia-ml-py is installed, or from a DCGM exporter."""

from __future__ import annotations

import importlib
import logging
import math
import threading
import time
import urllib.request
from array import array
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from layerwatch.schemas.profiles import COUNTER_COLUMNS

_log = logging.getLogger(__name__)

#: Between two readings; GPM needs 0.1 s or more (s).
_EVERY_S = 0.2
_DCGM_EVERY_S = 1.0
#: Readings that are kept for each GPU: a minute or more.
_KEPT = 400
#: GPM metrics of nvml.h, in the order of the last six columns.
_GPM = (2, 3, 5, 10, 20, 21)
#: Column: (gauge of a DCGM exporter, factor).
_DCGM: dict[str, tuple[tuple[str, ...], float]] = {
    "sm_clock_mhz": (("DCGM_FI_DEV_SM_CLOCK",), 1.0),
    "memory_clock_mhz": (("DCGM_FI_DEV_MEM_CLOCK",), 1.0),
    "power_w": (("DCGM_FI_DEV_POWER_USAGE",), 1.0),
    "temperature_c": (("DCGM_FI_DEV_GPU_TEMP",), 1.0),
    "gpu_utilisation_pct": (("DCGM_FI_DEV_GPU_UTIL",), 1.0),
    "memory_utilisation_pct": (("DCGM_FI_DEV_MEM_COPY_UTIL",), 1.0),
    "throttle_reasons": (("DCGM_FI_DEV_CLOCK_THROTTLE_REASONS", "DCGM_FI_DEV_CLOCKS_EVENT_REASONS"), 1.0),
    "sm_utilisation_pct": (("DCGM_FI_PROF_SM_ACTIVE",), 100.0),
    "sm_occupancy_pct": (("DCGM_FI_PROF_SM_OCCUPANCY",), 100.0),
    "tensor_active_pct": (("DCGM_FI_PROF_PIPE_TENSOR_ACTIVE",), 100.0),
    "dram_bandwidth_pct": (("DCGM_FI_PROF_DRAM_ACTIVE",), 100.0),
    "pcie_tx_mib_s": (("DCGM_FI_PROF_PCIE_TX_BYTES",), 2.0**-20),
    "pcie_rx_mib_s": (("DCGM_FI_PROF_PCIE_RX_BYTES",), 2.0**-20),
}

#: Rows by GPU: what a source knows just now.
Look = Callable[[], Mapping[str, list[float]]]


class GpuCounters:
    """Read by a thread of its own, so that a slow driver or exporter holds up nothing. `problem` says what is wrong."""

    def __init__(self, look: Look, every_s: float) -> None:
        self.problem = ""
        self.readings = 0
        self._look = look
        self._every_s = every_s
        self._rows: dict[str, deque[list[float]]] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="gpu", daemon=True)

    def start(self) -> GpuCounters:
        self._thread.start()
        return self

    def close(self) -> None:
        self._stop.set()
        self._thread.join(2.0)

    def between(self, gpu: str, start_s: float, end_s: float) -> bytes:
        """Readings of a GPU in (start, end], unix s: rows of `COUNTER_COLUMNS`, float64."""
        rows = [row for row in list(self._rows.get(gpu, ())) if start_s < row[0] <= end_s]
        return array("d", [value for row in rows for value in row]).tobytes()

    def read(self) -> None:
        """One reading; whatever fails is a problem, and no row."""
        try:
            found = self._look()
            self.problem = ""
        except Exception as error:  # noqa: BLE001 - a driver that is being replaced, an exporter that is away
            if not self.problem:
                _log.warning("no GPU counters: %r", error)
            self.problem = repr(error)
            return
        self.readings += 1
        for gpu, row in found.items():
            self._rows.setdefault(gpu, deque(maxlen=_KEPT)).append(row)

    def _run(self) -> None:
        while not self._stop.wait(self._every_s):
            self.read()


def nvml(module: Any = None) -> GpuCounters:
    """From NVML; raises ImportError or NVML's own error where there is none. `module` stands for pynvml (tests)."""
    pynvml = importlib.import_module("pynvml") if module is None else module
    pynvml.nvmlInit()
    return GpuCounters(_Nvml(pynvml), _EVERY_S)


def dcgm(url: str) -> GpuCounters:
    """From a DCGM exporter's /metrics: the only source of utilisation by unit on GPUs before Hopper."""
    return GpuCounters(lambda: _scrape(url), _DCGM_EVERY_S)


class _Nvml:
    def __init__(self, module: Any) -> None:
        self._nvml = module
        self._handles: dict[str, Any] = {}
        self._samples: dict[str, Any] = {}
        for number in range(module.nvmlDeviceGetCount()):
            handle = module.nvmlDeviceGetHandleByIndex(number)
            self._handles[_text(module.nvmlDeviceGetUUID(handle))] = handle

    def __call__(self) -> dict[str, list[float]]:
        return {gpu: self._row(gpu, handle) for gpu, handle in self._handles.items()}

    def _row(self, gpu: str, handle: Any) -> list[float]:
        nvml = self._nvml
        plain: list[Callable[[], float]] = [
            lambda: nvml.nvmlDeviceGetClockInfo(handle, 1),  # NVML_CLOCK_SM
            lambda: nvml.nvmlDeviceGetClockInfo(handle, 2),  # NVML_CLOCK_MEM
            lambda: nvml.nvmlDeviceGetPowerUsage(handle) / 1e3,
            lambda: nvml.nvmlDeviceGetTemperature(handle, 0),
            lambda: nvml.nvmlDeviceGetUtilizationRates(handle).gpu,
            lambda: nvml.nvmlDeviceGetUtilizationRates(handle).memory,
            lambda: nvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle),
        ]
        return [time.time(), *(self._ask(call) for call in plain), *self._gpm(gpu, handle)]

    def _ask(self, call: Callable[[], float]) -> float:
        try:
            return float(call())
        except self._nvml.NVMLError:
            return math.nan  # not on this GPU

    def _gpm(self, gpu: str, handle: Any) -> list[float]:
        """Over the time since the last reading; NaN at the first, and on GPUs before Hopper."""
        nvml, nothing = self._nvml, [math.nan] * len(_GPM)
        if self._samples.get(gpu) is False:
            return nothing
        try:
            sample = nvml.nvmlGpmSampleAlloc()
            nvml.nvmlGpmSampleGet(handle, sample)
        except (nvml.NVMLError, AttributeError):
            self._samples[gpu] = False
            return nothing
        former, self._samples[gpu] = self._samples.get(gpu), sample
        if former is None:
            return nothing
        asked = nvml.c_nvmlGpmMetricsGet_t()
        asked.version, asked.numMetrics = 1, len(_GPM)
        asked.sample1, asked.sample2 = former, sample
        for place, metric in enumerate(_GPM):
            asked.metrics[place].metricId = metric
        try:
            nvml.nvmlGpmMetricsGet(asked)
        except nvml.NVMLError:
            return nothing
        finally:
            nvml.nvmlGpmSampleFree(former)
        metrics = [asked.metrics[place] for place in range(len(_GPM))]
        return [float(m.value) if m.nvmlReturn == 0 else math.nan for m in metrics]


def _scrape(url: str) -> dict[str, list[float]]:
    from prometheus_client.parser import text_string_to_metric_families

    with urllib.request.urlopen(url, timeout=2.0) as answer:
        text = answer.read().decode()
    gauges: dict[str, dict[str, float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            gpu = sample.labels.get("UUID")
            if gpu:
                gauges.setdefault(gpu, {})[sample.name] = sample.value
    now_s = time.time()
    return {
        gpu: [now_s, *(_dcgm_value(found, name) for name in COUNTER_COLUMNS[1:])]
        for gpu, found in gauges.items()
    }


def _dcgm_value(found: dict[str, float], column: str) -> float:
    names, factor = _DCGM[column]
    return next((found[name] * factor for name in names if name in found), math.nan)


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
