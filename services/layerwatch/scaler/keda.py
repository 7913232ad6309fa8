"""KEDA's external scaler: asked (IsActive, GetMetricSpec, GetMetrics) and pushed (StreamIsActive). The one module that knows grpc."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, NoReturn

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from layerwatch.hosting.settings import ScalerSettings
from layerwatch.scaler.answer import Known, Unknown
from layerwatch.scaler.board import Board
from layerwatch.scaler.proto import externalscaler_pb2 as messages
from layerwatch.schemas.errors import ConfigError

METRIC = "layerwatch_recommended_replicas"
NAME = "externalscaler.ExternalScaler"

#: Between two looks at what changes by itself: leases end, what was heard grows old, kill switches are files (s).
_LOOK_S = 0.5
_STOP_S = 1.0


class Pulse:
    """Wakes all streams of one event loop. `beat` may be called from any thread."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()

    def beat(self) -> None:
        self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def wait(self) -> None:
        """Until the next beat, or the next look."""
        try:
            await asyncio.wait_for(self._changed.wait(), _LOOK_S)
        except TimeoutError:
            return


class ExternalScaler:
    """A ScaledObject names its service in the trigger's metadata: `service: bert-qa`."""

    def __init__(self, board: Board, pulse: Pulse) -> None:
        self._board, self._pulse = board, pulse

    async def is_active(self, ref: messages.ScaledObjectRef, context: Any) -> messages.IsActiveResponse:
        return messages.IsActiveResponse(result=(await self._known(ref, context)).enforced)

    async def stream_is_active(
        self, ref: messages.ScaledObjectRef, context: Any
    ) -> AsyncIterator[messages.IsActiveResponse]:
        """At once, and whenever the number changes: KEDA then asks for it."""
        told: tuple[bool, int] | None = None
        while True:
            known = await self._known(ref, context)
            if told != (known.enforced, known.replicas):
                told = known.enforced, known.replicas
                yield messages.IsActiveResponse(result=known.enforced)
            await self._pulse.wait()

    async def get_metric_spec(
        self, ref: messages.ScaledObjectRef, context: Any
    ) -> messages.GetMetricSpecResponse:
        """Answered before anything is known, too: KEDA makes another autoscaler of what it cannot ask at the beginning."""
        await self._service(ref, context)
        spec = messages.MetricSpec(metricName=METRIC, targetSize=1, targetSizeFloat=1.0)
        return messages.GetMetricSpecResponse(metricSpecs=[spec])

    async def get_metrics(
        self, request: messages.GetMetricsRequest, context: Any
    ) -> messages.GetMetricsResponse:
        if request.metricName != METRIC:
            await _abort(
                context, "INVALID_ARGUMENT", f"there is no metric {request.metricName!r}, only {METRIC}"
            )
        replicas = (await self._known(request.scaledObjectRef, context)).replicas
        value = messages.MetricValue(
            metricName=METRIC, metricValue=replicas, metricValueFloat=float(replicas)
        )
        return messages.GetMetricsResponse(metricValues=[value])

    async def _known(self, ref: messages.ScaledObjectRef, context: Any) -> Known:
        answer = self._board.answer(await self._service(ref, context))
        if isinstance(answer, Unknown):
            await _abort(context, "UNAVAILABLE", answer.reason)
        return answer

    async def _service(self, ref: messages.ScaledObjectRef, context: Any) -> str:
        service: str = ref.scalerMetadata.get("service", "")
        if not service:
            await _abort(
                context,
                "INVALID_ARGUMENT",
                f"ScaledObject {ref.namespace}/{ref.name} names no service: add `service: NAME` to the trigger's metadata",
            )
        return service


async def _abort(context: Any, code: str, text: str) -> NoReturn:
    await context.abort(getattr(grpc.StatusCode, code), text)
    raise AssertionError("abort raises")


class KedaServer:
    """The gRPC server with its health service. Raises ConfigError where address or certificate cannot be used."""

    def __init__(self, own: ScalerSettings, board: Board, pulse: Pulse) -> None:
        self._board = board
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        scaler = ExternalScaler(board, pulse)
        unary, stream = grpc.unary_unary_rpc_method_handler, grpc.unary_stream_rpc_method_handler
        ref, asked = messages.ScaledObjectRef.FromString, messages.GetMetricsRequest.FromString
        methods = {
            "IsActive": unary(scaler.is_active, ref, _bytes),
            "StreamIsActive": stream(scaler.stream_is_active, ref, _bytes),
            "GetMetricSpec": unary(scaler.get_metric_spec, ref, _bytes),
            "GetMetrics": unary(scaler.get_metrics, asked, _bytes),
        }
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(NAME, methods),))
        self._health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        self.port = self._bind(own)

    def _bind(self, own: ScalerSettings) -> int:
        address = f"{own.grpc_host}:{own.grpc_port}"
        try:
            if own.grpc_certificate is None or own.grpc_key is None:
                port: int = self._server.add_insecure_port(address)
            else:
                pair = own.grpc_key.read_bytes(), own.grpc_certificate.read_bytes()
                port = self._server.add_secure_port(address, grpc.ssl_server_credentials([pair]))
        except OSError as error:
            raise ConfigError(f"LAYERWATCH_SCALER__GRPC_KEY or __GRPC_CERTIFICATE: {error}") from error
        except (RuntimeError, ValueError) as error:
            raise ConfigError(
                f"cannot listen on {address} ({error}): set LAYERWATCH_SCALER__GRPC_PORT to a free port,"
                " or LAYERWATCH_SCALER__GRPC_HOST"
            ) from error
        return port

    async def serve(self, stopped: asyncio.Event) -> None:
        """Until `stopped`; streams are ended after a second."""
        await self._server.start()
        try:
            while not stopped.is_set():
                await self._tell_health()
                try:
                    await asyncio.wait_for(stopped.wait(), _LOOK_S)
                except TimeoutError:
                    continue
        finally:
            await self._health.enter_graceful_shutdown()
            await self._server.stop(_STOP_S)

    async def _tell_health(self) -> None:
        """Serving once it has caught up: what is stale is told in the answers, service by service."""
        status = health_pb2.HealthCheckResponse
        now = status.SERVING if self._board.ready else status.NOT_SERVING
        for name in ("", NAME):
            await self._health.set(name, now)


def _bytes(message: Any) -> bytes:
    out: bytes = message.SerializeToString()
    return out
