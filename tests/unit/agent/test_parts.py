"""Cost, governor, GPU counters, files and orders: each alone."""

from __future__ import annotations

import math
import threading
import time
from array import array
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerwatch.agent.controls import Controls
from layerwatch.agent.cost import Cost
from layerwatch.agent.governor import LEASE_S, sampling
from layerwatch.agent.gpu import dcgm, nvml
from layerwatch.agent.sinks import FileSink
from layerwatch.agent.window import shape_of
from layerwatch.recording.open import open_recording
from layerwatch.schemas.codec import encode
from layerwatch.schemas.control import Control
from layerwatch.schemas.engines import Manifest
from layerwatch.schemas.errors import ConfigError, InvalidRecord
from layerwatch.schemas.message_log import HEADER, Message, encode_message, read_messages
from layerwatch.schemas.profiles import COUNTER_COLUMNS, ON_TWIN, ProfileBatch
from layerwatch.schemas.ring import KeyedExecution, encode_dimensions
from layerwatch.schemas.runtimes import Input
from layerwatch.schemas.topics import ENGINES, PROFILES


def _executions(
    count: int, ms: float, *, twin: bool = False, shape: tuple[int, ...] = (1, 32)
) -> list[KeyedExecution]:
    flags = ON_TWIN if twin else 0
    key = encode_dimensions(shape)
    return [KeyedExecution(i, 0, int(ms * 1e6), 0, 0, flags, 0, 1, key, 0, 0, 0) for i in range(count)]


def test_the_cost_of_a_sample_is_found_by_shape() -> None:
    cost = Cost()
    assert cost.relative() == 1.0
    cost.fold(_executions(100, 2.0) + _executions(10, 4.0, twin=True), 10, 0)
    assert cost.relative() == pytest.approx(1.0)
    # the twin ran on large shapes only: that is no cost of sampling
    cost = Cost()
    large = (8, 512)
    cost.fold(_executions(100, 2.0) + _executions(100, 11.0, shape=large), 0, 0)
    cost.fold(_executions(10, 12.0, twin=True, shape=large), 10, 10 * 500_000)
    assert cost.relative() == pytest.approx((1.0 + 0.5) / 6.5)


def test_the_cost_follows_a_change_and_never_is_nothing() -> None:
    cost = Cost()
    cost.fold(_executions(1000, 2.0) + _executions(100, 2.0, twin=True), 100, 0)
    assert cost.relative() == 0.01
    for _ in range(60):
        cost.fold(_executions(1000, 2.0) + _executions(100, 3.0, twin=True), 100, 0)
    assert cost.relative() == pytest.approx(0.5, rel=0.1)


_controls = st.none() | st.builds(
    Control,
    service=st.just("s"),
    instance=st.just("i"),
    tier=st.sampled_from(["off", "baseline", "evidence", "canary"]),
    issued_s=st.just(0.0),
    expires_s=st.floats(0, 200),
    rate=st.none() | st.floats(-1, 2),
    ceiling_pct=st.none() | st.floats(0.001, 1000),
)


@given(_controls, st.floats(0.01, 100), st.floats(0, 1e5))
def test_no_order_costs_more_than_its_ceiling_or_lasts_longer_than_a_lease(
    control: Control | None, relative: float, executions_per_s: float
) -> None:
    order = sampling(
        control,
        now_s=100.0,
        relative_cost=relative,
        executions_per_s=executions_per_s,
        ceiling_pct=0.5,
        raised_ceiling_pct=10.0,
    )
    assert 0 <= order.rate <= 1
    assert order.rate * relative * 100 <= order.ceiling_pct * (1 + 1e-9)
    assert 100 < order.expires_s <= 100 + LEASE_S
    if control is None or control.expires_s <= 100:
        assert (order.tier, order.ceiling_pct) == ("baseline", 0.5)
    elif control.tier == "off" and control.rate is None:
        assert order.rate == 0


def test_a_slow_service_gives_one_sample_a_second_where_the_ceiling_allows() -> None:
    given = {"now_s": 0.0, "executions_per_s": 20.0, "ceiling_pct": 0.5, "raised_ceiling_pct": 10.0}
    assert sampling(None, relative_cost=0.01, **given).rate == pytest.approx(0.05)
    assert sampling(None, relative_cost=1.0, **given).rate == pytest.approx(0.005)


class _NvmlError(Exception): ...


def _nvml(*, gpm: bool) -> Any:
    def no(*_: object) -> float:
        raise _NvmlError

    metrics = [SimpleNamespace(metricId=0, value=float(n), nvmlReturn=0) for n in range(6)]
    return SimpleNamespace(
        NVMLError=_NvmlError,
        nvmlInit=lambda: None,
        nvmlDeviceGetCount=lambda: 1,
        nvmlDeviceGetHandleByIndex=lambda n: n,
        nvmlDeviceGetUUID=lambda h: b"GPU-1",
        nvmlDeviceGetClockInfo=lambda h, kind: 1000 * kind,
        nvmlDeviceGetPowerUsage=lambda h: 250_000,
        nvmlDeviceGetTemperature=no,
        nvmlDeviceGetUtilizationRates=lambda h: SimpleNamespace(gpu=50, memory=20),
        nvmlDeviceGetCurrentClocksThrottleReasons=lambda h: 4,
        nvmlGpmSampleAlloc=lambda: object(),
        nvmlGpmSampleGet=(lambda h, s: None) if gpm else no,
        nvmlGpmSampleFree=lambda s: None,
        c_nvmlGpmMetricsGet_t=lambda: SimpleNamespace(metrics=metrics),
        nvmlGpmMetricsGet=lambda asked: None,
    )


@pytest.mark.parametrize("gpm", [True, False])
def test_nvml_gives_rows_with_nan_for_what_a_gpu_lacks(gpm: bool) -> None:
    counters = nvml(_nvml(gpm=gpm))
    counters.read()
    counters.read()
    rows = array("d", counters.between("GPU-1", 0.0, time.time()))
    width = len(COUNTER_COLUMNS)
    assert len(rows) == 2 * width
    last = rows[width:].tolist()
    assert last[1:4] + last[5:8] == [1000, 2000, 250, 50, 20, 4]
    assert math.isnan(last[4])
    assert all(math.isnan(value) for value in rows[8:width])
    assert last[8:] == [0, 1, 2, 3, 4, 5] if gpm else all(math.isnan(value) for value in last[8:])
    assert counters.between("GPU-2", 0.0, 1e12) == counters.between("GPU-1", 0.0, 1.0) == b""


_EXPORTED = """# TYPE DCGM_FI_DEV_SM_CLOCK gauge
DCGM_FI_DEV_SM_CLOCK{gpu="0",UUID="GPU-1",device="nvidia0"} 1410
# TYPE DCGM_FI_PROF_SM_ACTIVE gauge
DCGM_FI_PROF_SM_ACTIVE{gpu="0",UUID="GPU-1",device="nvidia0"} 0.5
# TYPE DCGM_FI_PROF_PCIE_TX_BYTES gauge
DCGM_FI_PROF_PCIE_TX_BYTES{gpu="0",UUID="GPU-1",device="nvidia0"} 10485760
"""


def test_a_dcgm_exporter_is_read_and_its_absence_is_a_problem_only() -> None:
    class Exporter(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(_EXPORTED.encode())

        def log_message(self, format: str, *args: Any) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Exporter)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    counters = dcgm(f"http://127.0.0.1:{server.server_port}/metrics")
    counters.read()
    row = dict(zip(COUNTER_COLUMNS, array("d", counters.between("GPU-1", 0.0, 1e12)), strict=True))
    assert (row["sm_clock_mhz"], row["sm_utilisation_pct"], row["pcie_tx_mib_s"]) == (1410, 50, 10)
    assert math.isnan(row["power_w"])
    server.shutdown()
    server.server_close()
    counters.read()
    assert counters.problem
    assert counters.readings == 1


@given(st.lists(st.integers(-5, 10**6), max_size=16).map(tuple), st.lists(st.integers(1, 8), max_size=4))
def test_every_shape_is_one_that_the_processor_takes(dimensions: tuple[int, ...], ranks: list[int]) -> None:
    inputs = [Input(f"t{n}", rank) for n, rank in enumerate(ranks)]
    shape = shape_of(encode_dimensions(dimensions), inputs)
    assert shape
    assert all(d >= 1 for dims in shape.values() for d in dims)
    assert [len(dims) for dims in shape.values()] == (ranks or [1])


_messages = st.lists(
    st.builds(Message, topic=st.text(max_size=5), key=st.binary(max_size=5), value=st.binary(max_size=50)),
    max_size=5,
)


@given(_messages, st.data())
def test_a_log_that_is_cut_short_gives_its_whole_messages(
    messages: list[Message], data: st.DataObject
) -> None:
    import io

    frames = [encode_message(message) for message in messages]
    whole = HEADER + b"".join(frames)
    assert list(read_messages(io.BytesIO(whole))) == messages
    cut = data.draw(st.integers(len(HEADER), len(whole)))
    read = list(read_messages(io.BytesIO(whole[:cut])))
    assert read == messages[: len(read)]
    assert sum(map(len, frames[: len(read) + 1])) + len(HEADER) > cut or len(read) == len(messages)


def test_a_log_of_another_kind_version_or_damaged_is_refused() -> None:
    import io

    frame = encode_message(Message("t", b"k", b"v"))
    for data, reason in (
        (b"", "wrong_magic"),
        (b"PK" + frame, "wrong_magic"),
        (HEADER[:-1] + b"\2" + frame, "unsupported_version"),
        (HEADER + frame[:-1] + b"\xff", "malformed"),
        (HEADER + b"\xff" * 8, "malformed"),
    ):
        with pytest.raises(InvalidRecord) as error:
            list(read_messages(io.BytesIO(data)))
        assert error.value.reason == reason


def test_what_an_agent_writes_to_a_file_is_a_recording(tmp_path: Path) -> None:
    sink = FileSink(tmp_path / "a.lwlog")
    batch = ProfileBatch(
        service="s", instance="i", boot_ms=1, sequence=0, engine="sha256:1", window_start_s=1, window_end_s=2
    )
    sink.offer(ENGINES, b"sha256:1", encode(Manifest(engine="sha256:1")))
    sink.offer(PROFILES, b"i", encode(batch))
    sink.close()
    recording = open_recording(tmp_path / "a.lwlog", service="other")
    assert [b.service for b in recording] == ["other"]
    assert [m.engine for m in recording.manifests] == ["sha256:1"]
    with pytest.raises(ConfigError, match="choose another --to"):
        FileSink(tmp_path / "absent" / "a.lwlog")


def test_a_full_disk_costs_records_and_leaves_a_file_that_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "a.lwlog"
    sink = FileSink(path)
    sink.offer("t", b"k", b"first")
    real = sink._file

    class Full:
        def write(self, data: bytes) -> int:
            return real.write(data[:7])

        def __getattr__(self, name: str) -> Any:
            return getattr(real, name)

    sink._file = Full()  # type: ignore[assignment]
    sink.offer("t", b"k", b"second")
    sink._file = real
    sink.offer("t", b"k", b"third")
    sink.close()
    with path.open("rb") as file:
        assert [message.value for message in read_messages(file)] == [b"first", b"third"]
    assert (sink.offered, sink.acked, sink.dropped) == (3, 2, 1)


def test_orders_are_kept_by_instance_and_forgotten_when_they_have_expired() -> None:
    controls = Controls()
    order = Control(service="s", instance="i", tier="evidence", issued_s=0, expires_s=100)
    controls.take(encode(order), 50.0)
    assert controls.by_instance == {"i": order}
    controls.take(b"nonsense", 50.0)
    controls.take(None, 50.0)
    for number in (math.nan, math.inf, -1.0):
        controls.take(encode(msgspec.structs.replace(order, rate=number)), 50.0)
        controls.take(encode(msgspec.structs.replace(order, ceiling_pct=number)), 50.0)
    assert controls.refused == 8
    assert controls.by_instance == {"i": order}
    controls.take(encode(order), 150.0)
    assert controls.by_instance == {}
