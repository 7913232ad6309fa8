"""The history over HTTP, on a database filled for the purpose."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from history_records import START_S, alert_json, decision_json
from jsonschema import Draft202012Validator
from starlette.routing import Route
from starlette.testclient import TestClient

from layerwatch.history.api import create_app
from layerwatch.history.metrics import Metrics
from layerwatch.history.reader import Reader
from layerwatch.history.rows import alert_row, decision_row
from layerwatch.history.store import Batch, Store
from layerwatch.schemas.times import rfc3339


class Service:
    """The application, its database, and what it is told about its health."""

    def __init__(self, path: Path) -> None:
        self.store = Store(path)
        self.wrong: str | None = None
        self.is_ready = False
        self.heard_s: dict[str, float] = {}
        self.now_s = START_S + 30
        self.app = create_app(
            Reader(path),
            Metrics().registry,
            lambda: self.wrong,
            lambda: self.is_ready,
            self.heard_s.get,
            lambda: self.now_s,
        )
        self.client = TestClient(self.app, raise_server_exceptions=False)

    def add(self, *alerts: bytes) -> None:
        self.store.write(Batch([alert_row(alert) for alert in alerts]))

    def decide(self, *decisions: bytes) -> None:
        self.store.write(Batch([decision_row(decision) for decision in decisions]))

    def ids(self, path: str, **parameters: str) -> list[str]:
        answer = self.client.get(path, params=parameters)
        assert answer.status_code == 200, answer.text
        return [item["id"] for item in answer.json()["items"]]


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    service = Service(tmp_path / "db")
    yield service
    service.store.close()


@pytest.fixture
def filled(service: Service) -> Service:
    other = [
        {"cause": "load", "confidence": 0.9, "evidence": ""},
        {"cause": "unknown", "confidence": 0.1, "evidence": ""},
    ]
    service.add(
        alert_json("old", opened_s=START_S),
        alert_json("info", opened_s=START_S + 10, severity="info", kind="load", causes=other),
        alert_json(
            "bad", opened_s=START_S + 20, severity="critical", service="llm", instances=["x-0", "x-1"]
        ),
        alert_json("old", 2, status="resolved", closed_at=rfc3339(START_S + 9)),
    )
    service.decide(
        decision_json("more"),
        decision_json("over", issued_s=START_S + 5, action="failover", mode="enforce", status="expired",
                      target={"service": "llm", "instance": "x-0", "domain": "routing"}),
    )  # fmt: skip
    return service


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({}, ["bad", "info", "old"]),
        ({"service": "llm"}, ["bad"]),
        ({"kind": "load"}, ["info"]),
        ({"severity": "warning"}, ["old"]),
        ({"min_severity": "warning"}, ["bad", "old"]),
        ({"status": "resolved"}, ["old"]),
        ({"status": "firing", "min_severity": "info"}, ["bad", "info"]),
        ({"instance": "x-1"}, ["bad"]),
        ({"cause": "unknown"}, ["info"]),
        ({"since": rfc3339(START_S + 10)}, ["bad", "info"]),
        ({"until": rfc3339(START_S + 10)}, ["old"]),
        ({"since": "2026-11-22T11:00:10+01:00", "until": "2026-11-22T10:00:20Z"}, ["info"]),
        ({"service": "'; DROP TABLE alerts; --"}, []),
    ],
)
def test_alerts_are_filtered_by(filled: Service, parameters: dict[str, str], expected: list[str]) -> None:
    assert filled.ids("/v1/alerts", **parameters) == expected


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({}, ["over", "more"]),
        ({"service": "llm"}, ["over"]),
        ({"action": "scale_out"}, ["more"]),
        ({"mode": "enforce"}, ["over"]),
        ({"status": "active"}, ["more"]),
        ({"domain": "routing"}, ["over"]),
        ({"since": rfc3339(START_S + 5)}, ["over"]),
        ({"until": rfc3339(START_S + 5)}, ["more"]),
    ],
)
def test_decisions_are_filtered_by(filled: Service, parameters: dict[str, str], expected: list[str]) -> None:
    assert filled.ids("/v1/decisions", **parameters) == expected


@pytest.mark.parametrize("size", [1, 3, 7])
def test_pages_visit_every_alert_once_although_others_arrive_and_change_meanwhile(
    service: Service, size: int
) -> None:
    # Many share a moment: the id decides among them.
    service.add(*(alert_json(f"alert {n}", opened_s=START_S + n // 5) for n in range(20)))
    seen: list[str] = []
    page: str | None = ""
    while page is not None:
        parameters = {"limit": str(size), **({"page": page} if page else {})}
        answer = service.client.get("/v1/alerts", params=parameters).json()
        seen += [item["id"] for item in answer["items"]]
        assert len(seen) <= 20, seen
        page = answer["next"]
        service.add(
            alert_json(f"new {len(seen)}", opened_s=START_S + 1000),
            alert_json(seen[0], len(seen) + 1, opened_s=START_S + 2000),
        )
    assert sorted(seen) == sorted(f"alert {n}" for n in range(20))


def test_an_alert_is_given_as_emitted_and_not_again_to_who_has_it(service: Service) -> None:
    data = alert_json('a/ü"1', 3)
    service.add(data, alert_json('a/ü"1', 2))
    first = service.client.get("/v1/alerts/a%2F%C3%BC%221")
    assert first.content == data
    etag = first.headers["etag"]
    again = service.client.get("/v1/alerts/a%2F%C3%BC%221", headers={"If-None-Match": f'"x", W/{etag}'})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
    service.add(alert_json('a/ü"1', 4))
    changed = service.client.get("/v1/alerts/a%2F%C3%BC%221", headers={"If-None-Match": etag})
    assert (changed.status_code, changed.json()["revision"]) == (200, 4)


def test_the_events_of_an_alert_are_all_its_revisions_oldest_first(service: Service) -> None:
    service.add(*(alert_json("a/b", revision) for revision in (2, 1, 3)))
    items = service.client.get("/v1/alerts/a/b/events").json()["items"]
    assert [item["revision"] for item in items] == [1, 2, 3]


@pytest.mark.parametrize("path", ["/v1/alerts/none", "/v1/alerts/none/events", "/v1/nothing"])
def test_what_does_not_exist_is_a_problem_document(service: Service, path: str) -> None:
    answer = service.client.get(path)
    assert answer.status_code == answer.json()["status"] == 404
    assert answer.headers["content-type"] == "application/problem+json"


def test_another_method_is_a_problem_document_that_names_the_allowed_ones(service: Service) -> None:
    answer = service.client.post("/v1/alerts")
    assert answer.status_code == 405
    assert answer.headers["content-type"] == "application/problem+json"
    assert "GET" in answer.headers["allow"]


@pytest.mark.parametrize(
    ("query", "name", "allowed"),
    [
        ("severity=bad", "severity", "info, warning, critical"),
        ("min_severity=", "min_severity", "info, warning, critical"),
        ("kind=x", "kind", "layer_latency"),
        ("since=yesterday", "since", "RFC 3339"),
        ("until=2026-11-22T10:00:00", "until", "RFC 3339"),
        ("limit=0", "limit", "1 to 1000"),
        ("limit=1001", "limit", "1 to 1000"),
        ("limit=²", "limit", "1 to 1000"),
        ("page=zzz", "page", "next"),
        ("page=WzEsMl0", "page", "next"),
        ("page=", "page", "next"),
        ("colour=red", "colour", "service, kind"),
        ("service=a&service=b", "service", "once"),
    ],
)
def test_a_parameter_that_cannot_be_used_is_named_with_what_is_allowed(
    service: Service, query: str, name: str, allowed: str
) -> None:
    answer = service.client.get(f"/v1/alerts?{query}")
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["parameter"] == name
    assert allowed in answer.json()["detail"]


@pytest.mark.parametrize("path", ["/v1/alerts/a", "/v1/alerts/a/events"])
def test_one_alert_takes_no_parameters(service: Service, path: str) -> None:
    assert service.client.get(f"{path}?x=1").json()["parameter"] == "x"


def test_a_failure_inside_is_a_problem_document(service: Service, tmp_path: Path) -> None:
    app = create_app(
        Reader(tmp_path / "none"), Metrics().registry, lambda: None, lambda: True, lambda _: None
    )
    answer = TestClient(app, raise_server_exceptions=False).get("/v1/alerts")
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"


def _verdict(service: Service, name: str = "bert-qa") -> dict[str, Any]:
    data: dict[str, Any] = service.client.get(f"/v1/verdicts/{name}").json()["data"]
    return data


def test_a_service_is_healthy_once_it_was_judged_lately_and_nothing_fires(service: Service) -> None:
    service.is_ready = True
    assert (_verdict(service)["verdict"], _verdict(service)["expires_at"]) == (
        "unknown",
        rfc3339(service.now_s),
    )
    service.heard_s["bert-qa"] = START_S
    assert (_verdict(service)["verdict"], _verdict(service)["expires_at"]) == (
        "healthy",
        rfc3339(START_S + 60),
    )
    service.now_s = START_S + 61
    assert _verdict(service)["verdict"] == "unknown", "no data is not healthy"


def test_what_fires_makes_a_service_anomalous_until_it_is_resolved(service: Service) -> None:
    service.is_ready, service.heard_s["bert-qa"] = True, START_S
    service.add(alert_json("other", service="other"), alert_json("info", severity="info"))
    assert _verdict(service)["verdict"] == "healthy"
    service.add(alert_json("a"))
    found = _verdict(service)
    assert (found["verdict"], found["alerts"]) == ("anomalous", ["a"])
    assert "attention of block 7" in found["reason"]
    service.now_s += 600
    assert _verdict(service)["verdict"] == "anomalous", "an alert does not go away with silence"
    service.now_s -= 600
    service.add(alert_json("a", 2, status="resolved", closed_at=rfc3339(START_S + 9)))
    assert _verdict(service)["verdict"] == "healthy"


def test_a_history_that_lags_or_is_stuck_knows_no_verdict(service: Service) -> None:
    service.heard_s["bert-qa"] = START_S
    assert _verdict(service)["verdict"] == "unknown"
    service.is_ready, service.wrong = True, "stuck"
    assert (_verdict(service)["verdict"], _verdict(service)["reason"]) == ("unknown", "stuck")


def test_health_and_readiness_say_what_they_are_told(service: Service) -> None:
    assert service.client.get("/healthz").status_code == 200
    assert service.client.get("/readyz").status_code == 503
    service.wrong, service.is_ready = "stuck", True
    assert service.client.get("/readyz").status_code == 200
    answer = service.client.get("/healthz")
    assert (answer.status_code, answer.text) == (503, "stuck\n")


def test_metrics_carry_all_their_names_from_the_start(service: Service) -> None:
    text = service.client.get("/metrics").text
    for name in (
        "rows_total{",
        "repeated_total{",
        "refused_total",
        "lag_records",
        "position_timestamp_seconds",
    ):
        assert f"layerwatch_history_{name}" in text


def test_the_openapi_document_lists_the_routes_and_parameters_that_exist(filled: Service) -> None:
    document: dict[str, Any] = filled.client.get("/openapi.json").json()
    routes = [route.path for route in filled.app.routes if isinstance(route, Route)]
    assert sorted(document["paths"]) == sorted(path.replace(":path", "") for path in routes)
    unknown = filled.client.get("/v1/alerts?unknown=1").json()["detail"]
    for parameter in document["paths"]["/v1/alerts"]["get"]["parameters"]:
        assert parameter["name"] in unknown


def test_answers_are_what_the_openapi_document_says(filled: Service) -> None:
    document = filled.client.get("/openapi.json").json()
    for path, name in (
        ("/v1/alerts", "AlertPage"),
        ("/v1/decisions", "DecisionPage"),
        ("/v1/alerts/x", "Problem"),
        ("/v1/verdicts/bert-qa", "Verdict"),
        ("/v1/verdicts/bert-qa?x=1", "Problem"),
    ):
        schema = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
        Draft202012Validator(schema).validate(json.loads(filled.client.get(path).text))
