"""A client as KEDA would be: `python keda_client.py PROTO ADDRESS`, generated from a .proto file when it starts.

Reads one JSON array a line from stdin, [method, metadata, seconds], and prints what came as one JSON object a line. Streams are
followed for so long, each answer a line of its own.
"""

from __future__ import annotations

import importlib
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_tools import protoc


def main(proto: Path, address: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(proto, Path(folder) / "externalscaler.proto")
        made = protoc.main(
            [
                "protoc",
                f"-I{folder}",
                f"--python_out={folder}",
                f"--grpc_python_out={folder}",
                "externalscaler.proto",
            ]
        )
        assert made == 0
        sys.path.insert(0, folder)
        messages: Any = importlib.import_module("externalscaler_pb2")
        services: Any = importlib.import_module("externalscaler_pb2_grpc")
    with grpc.insecure_channel(address) as channel:
        stub = services.ExternalScalerStub(channel)
        health = health_pb2_grpc.HealthStub(channel)
        _tell(method="started")
        for line in sys.stdin:
            method, metadata, seconds = json.loads(line)
            ref = messages.ScaledObjectRef(name="o", namespace="n", scalerMetadata=metadata)
            try:
                _call(messages, stub, health, method, ref, seconds)
            except grpc.RpcError as error:
                _tell(method=method, code=error.code().name, detail=error.details())


def _call(messages: Any, stub: Any, health: Any, method: str, ref: Any, seconds: float) -> None:
    if method == "Health":
        answer = health.Check(
            health_pb2.HealthCheckRequest(service="externalscaler.ExternalScaler"), timeout=seconds
        )
        _tell(method=method, status=health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))
    elif method == "IsActive":
        _tell(method=method, active=stub.IsActive(ref, timeout=seconds).result)
    elif method == "StreamIsActive":
        for pushed in stub.StreamIsActive(ref, timeout=seconds):
            _tell(method=method, active=pushed.result, at_s=time.time())
    elif method == "GetMetricSpec":
        (spec,) = stub.GetMetricSpec(ref, timeout=seconds).metricSpecs
        _tell(method=method, name=spec.metricName, target=spec.targetSizeFloat)
    else:
        name = stub.GetMetricSpec(ref, timeout=seconds).metricSpecs[0].metricName
        began_s = time.perf_counter()
        request = messages.GetMetricsRequest(scaledObjectRef=ref, metricName=name)
        (value,) = stub.GetMetrics(request, timeout=seconds).metricValues
        took_ms = 1000 * (time.perf_counter() - began_s)
        _tell(method=method, value=value.metricValueFloat, whole=value.metricValue, took_ms=took_ms)


def _tell(**what: Any) -> None:
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
