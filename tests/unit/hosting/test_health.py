"""Who is answered what by a process."""

from __future__ import annotations

import socket
import urllib.error
import urllib.request

import pytest
from prometheus_client import CollectorRegistry

from layerwatch.hosting.health import Answer, HealthServer


def route(method: str, path: str, content_type: str, body: bytes) -> Answer | None:
    return Answer("200 OK", {"killed": True}) if path == "/v1/kill" else None


def own_address() -> str:
    """An address of this machine that is not loopback; nothing is sent to find it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine has no address but loopback")
        address: str = probe.getsockname()[0]
        return address


def test_orders_are_taken_from_this_machine_alone_wherever_it_listens() -> None:
    server = HealthServer(0, CollectorRegistry(), lambda: None, lambda: True, route, host="0.0.0.0").start()
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/v1/kill", timeout=5) as answer:
            assert answer.read() == b'{"killed": true}\n'
        outside = f"http://{own_address()}:{server.port}"
        with urllib.request.urlopen(f"{outside}/healthz", timeout=5) as answer:
            assert answer.read() == b"ok\n"
        with pytest.raises(urllib.error.HTTPError, match="404") as refused:
            urllib.request.urlopen(f"{outside}/v1/kill", timeout=5)
        refused.value.close()
    finally:
        server.close()
