"""The gRPC server by itself: its address, its certificate, and streams while time goes by."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from pydantic import ValidationError
from scaler_records import load

from layerwatch.hosting.log_source import RawRecord
from layerwatch.hosting.orders import OrderBook
from layerwatch.hosting.services import Services
from layerwatch.hosting.settings import ScalerSettings, Settings
from layerwatch.scaler.board import Board
from layerwatch.scaler.keda import NAME, KedaServer, Pulse
from layerwatch.scaler.proto import externalscaler_pb2 as messages
from layerwatch.schemas.codec import encode_json
from layerwatch.schemas.errors import ConfigError
from layerwatch.schemas.topics import LOAD

NOW_S = 1_795_341_600.0
REF = messages.ScaledObjectRef(scalerMetadata={"service": "s"})


class _Bed:
    """A board with a clock of its own, and a server."""

    def __init__(self, state_dir: Path) -> None:
        self.now_s = NOW_S
        orders = OrderBook(Settings(state_dir=state_dir))
        self.board = Board(Services(), orders, "enforce", 60.0, lambda: self.now_s)
        self.board.ready = True

    def take(self, replicas: int) -> None:
        value = encode_json(load(self.now_s, replicas=replicas))
        self.board.take([RawRecord(LOAD, "t", 0, 0, 0, value)])

    def run(self, own: ScalerSettings, ask: Callable[[int, Pulse], Awaitable[Any]]) -> Any:
        """What `ask(port, pulse)` gives while the server runs."""

        async def serve() -> Any:
            pulse, stopped = Pulse(), asyncio.Event()
            server = KedaServer(own, self.board, pulse)
            serving = asyncio.create_task(server.serve(stopped))
            try:
                return await asyncio.wait_for(ask(server.port, pulse), 30)
            finally:
                stopped.set()
                await serving

        return asyncio.run(serve())


@pytest.fixture
def bed(tmp_path: Path) -> _Bed:
    return _Bed(tmp_path)


def _stub(channel: Any, method: str, answer: Any, *, stream: bool = False) -> Any:
    kind = channel.unary_stream if stream else channel.unary_unary
    return kind(f"/{NAME}/{method}", lambda m: m.SerializeToString(), answer.FromString)


def test_a_stream_is_told_of_each_change_once_and_ends_when_what_was_heard_is_old(bed: _Bed) -> None:
    bed.take(5)

    async def ask(port: int, pulse: Pulse) -> list[bool]:
        told = []
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            stream = _stub(channel, "StreamIsActive", messages.IsActiveResponse, stream=True)(REF)
            told.append((await stream.read()).result)
            pulse.beat()  # nothing has changed: nothing is told
            bed.take(7)
            pulse.beat()
            told.append((await stream.read()).result)
            bed.now_s += 61
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stream.read()
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        return told

    assert bed.run(ScalerSettings(grpc_port=0), ask) == [True, True]


def test_another_metric_than_ours_is_refused(bed: _Bed) -> None:
    bed.take(5)

    async def ask(port: int, pulse: Pulse) -> Any:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            request = messages.GetMetricsRequest(scaledObjectRef=REF, metricName="cpu")
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await _stub(channel, "GetMetrics", messages.GetMetricsResponse)(request)
            return caught.value.code()

    assert bed.run(ScalerSettings(grpc_port=0), ask) is grpc.StatusCode.INVALID_ARGUMENT


def test_with_a_certificate_keda_is_answered_over_tls_and_not_without(bed: _Bed, tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed: it makes the certificate")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    made = f"openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -keyout {key} -out {certificate}"
    argv = [*made.split(), "-addext", "subjectAltName=DNS:localhost"]
    subprocess.run(argv, check=True, capture_output=True)
    bed.take(5)
    trusted = grpc.ssl_channel_credentials(certificate.read_bytes())

    async def ask(port: int, pulse: Pulse) -> bool:
        async with grpc.aio.secure_channel(f"localhost:{port}", trusted) as channel:
            told = await _stub(channel, "IsActive", messages.IsActiveResponse)(REF)
        async with grpc.aio.insecure_channel(f"localhost:{port}") as channel:
            with pytest.raises(grpc.aio.AioRpcError):
                await _stub(channel, "IsActive", messages.IsActiveResponse)(REF, timeout=3)
        found: bool = told.result
        return found

    own = ScalerSettings(grpc_port=0, grpc_host="localhost", grpc_certificate=certificate, grpc_key=key)
    assert bed.run(own, ask)


def test_what_cannot_be_used_is_named(bed: _Bed, tmp_path: Path) -> None:
    async def never(port: int, pulse: Pulse) -> None:
        raise AssertionError("it must not start")

    missing = ScalerSettings(grpc_port=0, grpc_certificate=tmp_path / "c", grpc_key=tmp_path / "k")
    with pytest.raises(ConfigError, match="GRPC_KEY"):
        bed.run(missing, never)

    async def twice(port: int, pulse: Pulse) -> None:
        with pytest.raises(ConfigError, match="GRPC_PORT"):
            KedaServer(ScalerSettings(grpc_port=port), bed.board, pulse)

    bed.run(ScalerSettings(grpc_port=0), twice)
    with pytest.raises(ValidationError, match="set both, or none"):
        ScalerSettings(grpc_key=tmp_path / "k")
