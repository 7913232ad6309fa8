"""How soon an autoscaler hears: from a decision in Kafka to KEDA's push, and from KEDA's question to the answer."""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Sequence

from bed import Bed
from keda import keda
from scaler_records import decision, load, publisher

_SERVICES = 1_000
_ASKED, _PUSHED = 500, 50


def measure(machine: Bed) -> None:
    """With 1 000 services known, each with a decision."""
    machine.settings = machine.settings.model_copy(
        update={"decision": machine.settings.decision.model_copy(update={"mode": "enforce"})}
    )
    names = [f"service-{number}" for number in range(_SERVICES)]
    asked = {"service": names[0]}
    with publisher(machine.settings) as send, machine.service("scaler"):
        now_s = time.time()
        send(*(record for name in names for record in (load(now_s, name), decision(now_s, name))))
        with (
            keda(machine.settings.scaler.grpc_port) as client,
            keda(machine.settings.scaler.grpc_port) as stream,
        ):
            while "value" not in client.ask("GetMetrics", asked):
                time.sleep(0.1)
            answers = [client.ask("GetMetrics", asked)["took_ms"] for _ in range(_ASKED)]
            _tell("scaler_answer", answers, f"{_ASKED} GetMetrics, {_SERVICES} services known")
            stream.begin("StreamIsActive", asked, 600)
            stream.answer()
            pushes = []
            for number in range(_PUSHED):
                began_s = time.time()
                send(
                    load(began_s, names[0]),
                    decision(began_s, names[0], revision=2 + number, parameters={"replicas": 6 + number % 2}),
                )
                pushes.append(1000 * (stream.answer()["at_s"] - began_s))
                time.sleep(0.05)
            _tell(
                "scaler_push",
                pushes,
                f"{_PUSHED} decisions, from before they are sent to Kafka until KEDA has them",
            )
        began_s = time.perf_counter()
        machine.metric("scaler", "layerwatch_recommended_replicas")
        scrape_ms = 1000 * (time.perf_counter() - began_s)
    line = {"measure": "scaler_scrape", "ms": round(scrape_ms, 1), "input": f"{_SERVICES} services"}
    print(json.dumps({**line, "cpus": os.cpu_count()}), flush=True)


def _tell(what: str, took_ms: Sequence[float], given: str) -> None:
    figures = {
        "median_ms": round(statistics.median(took_ms), 2),
        "p99_ms": round(statistics.quantiles(took_ms, n=100)[98], 2),
        "most_ms": round(max(took_ms), 2),
    }
    print(json.dumps({"measure": what, **figures, "input": given, "cpus": os.cpu_count()}), flush=True)
