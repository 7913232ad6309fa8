"""Which decisions an agent shows to the runtimes of its host, and when it takes them back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fake_tensorrt import FakeCuda, FakeEngine, trt

from layerwatch.agent.agent import Agent
from layerwatch.agent.inbox import Inbox
from layerwatch.agent.routes import Routes
from layerwatch.agent.sinks import FileSink
from layerwatch.probe import Probe
from layerwatch.schemas.codec import encode_json
from layerwatch.schemas.control_page import Route
from layerwatch.schemas.decisions import Decision, Target
from layerwatch.schemas.times import rfc3339

NOW_S = 1_795_341_600.0


def decision(instance: str = "*", action: str = "fallback_precision", **changes: Any) -> bytes:
    fields: dict[str, Any] = {
        "id": f"d-{instance}",
        "epoch": 4,
        "revision": 1,
        "status": "active",
        "target": Target("bert-qa", instance, "routing"),
        "action": action,
        "mode": "enforce",
        "parameters": {"engine": "fp16"},
        "reason": "it drifts",
        "alerts": [],
        "confidence": 0.9,
        "expected": "less error",
        "policy": "default@1",
        "issued_at": rfc3339(NOW_S),
        "expires_at": rfc3339(NOW_S + 300),
    }
    return encode_json(Decision(**{**fields, **changes}))


def route_of(*records: bytes | None, instance: str = "a", at_s: float = NOW_S) -> Route | None:
    routes = Routes()
    for record in records:
        routes.take(record)
    return routes.of("bert-qa", instance, at_s)


def test_a_services_decision_holds_for_all_its_instances_until_its_lease_ends() -> None:
    expected = Route("fallback_precision", "fp16", NOW_S + 300, 4, "d-*")
    assert route_of(decision()) == route_of(decision(), instance="b") == expected
    assert route_of(decision(), at_s=NOW_S + 299.9) == expected
    assert route_of(decision(), at_s=NOW_S + 300) is None
    routes = Routes()
    routes.take(decision())
    assert routes.of("another", "a", NOW_S) is None


def test_an_instances_own_decision_wins_over_its_services() -> None:
    for records in ((decision(), decision("a", "restore")), (decision("a", "restore"), decision())):
        found = route_of(*records)
        assert found is not None
        assert found.action == "restore"
        other = route_of(*records, instance="b")
        assert other is not None
        assert other.action == "fallback_precision"
    after = route_of(decision(), decision("a", "failover"), decision("a", "failover", status="withdrawn"))
    assert after is not None
    assert after.action == "fallback_precision"


@pytest.mark.parametrize(
    "changes",
    [
        {"mode": "shadow"},
        {"mode": "advise"},
        {"status": "withdrawn"},
        {"status": "expired"},
        {"target": Target("bert-qa", "*", "capacity")},
    ],
)
def test_only_what_machines_should_obey_is_obeyed(changes: dict[str, Any]) -> None:
    assert route_of(decision(**changes)) is None
    if "target" not in changes:
        assert route_of(decision(), decision(**changes)) is None  # and ends what held before


@pytest.mark.parametrize(
    "record", [b"garbage", decision(expires_at="soon"), decision(parameters={"engine": "x" * 65})]
)
def test_what_cannot_be_shown_is_refused_and_counted(record: bytes) -> None:
    routes = Routes()
    routes.take(None)
    routes.take(decision())
    routes.take(record)
    assert (routes.read, routes.refused) == (1, 1)
    assert routes.of("bert-qa", "a", NOW_S) is not None


class Clock:
    now_s = NOW_S

    def __call__(self) -> float:
        return self.now_s


def test_a_runtime_is_shown_what_holds_and_an_agent_that_knows_nothing_yet_takes_nothing_back(
    tmp_path: Path,
) -> None:
    shared = tmp_path / "shared"
    engine = FakeEngine(FakeCuda())
    routes, clock, loaded = Routes(), Clock(), [True]

    def agent() -> Agent:
        made = Agent(
            shared,
            FileSink(tmp_path / "out.lwlog"),
            Inbox(shared),
            clock=clock,
            routes=routes,
            routes_loaded=lambda: loaded[0],
        )
        made.step()
        return made

    shared.mkdir()
    probe = Probe(engine, service="bert-qa", instance="a", folder=str(shared), trt=trt, cuda=engine.cuda)
    first = agent()
    (runtime,) = first.runtimes.values()
    assert runtime.route == Route("none")
    routes.take(decision())
    first.step()
    shown = Route("fallback_precision", "fp16", NOW_S + 300, 4, "d-*")
    assert runtime.route == shown
    first.close()
    routes, loaded = Routes(), [False]
    second = agent()
    (runtime,) = second.runtimes.values()
    assert runtime.route == shown
    loaded[0] = True
    second.step()
    assert runtime.route == Route("none")
    second.close()
    probe.close()
