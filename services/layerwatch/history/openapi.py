"""The OpenAPI 3.1 document of the history. Parameters come from the filters, items from the shipped JSON Schemas."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from layerwatch.history.filters import ALERT_FILTERS, DECISION_FILTERS, Filter
from layerwatch.history.query import LIMIT_DEFAULT, LIMIT_MOST
from layerwatch.schemas.json import load

Document = dict[str, Any]

_ID = {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}
_ETAG = {"description": "id and revision", "schema": {"type": "string"}}
_IF_NONE_MATCH = {
    "name": "If-None-Match",
    "in": "header",
    "description": "ETag of what the client has",
    "schema": {"type": "string"},
}


def document() -> Document:
    """The whole document."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "layerwatch history", "version": version("layerwatch")},
        "paths": {
            "/v1/alerts": _listing("Alerts, newest first", "Alert", ALERT_FILTERS),
            "/v1/alerts/{id}": _alert(),
            "/v1/alerts/{id}/events": _events(),
            "/v1/decisions": _listing("Decisions, newest first", "Decision", DECISION_FILTERS),
            "/v1/verdicts/{service}": _verdict(),
            "/healthz": _plain("Whether the process is well", failing=True),
            "/readyz": _plain("Whether the topics were read to their end once", failing=True),
            "/metrics": _plain("Prometheus metrics", failing=False),
            "/openapi.json": _get("This document", {"200": _json("This document", {"type": "object"})}),
        },
        "components": {
            "schemas": {
                "Alert": load("alert"),
                "Decision": load("decision"),
                "AlertPage": _page("Alert"),
                "DecisionPage": _page("Decision"),
                "Verdict": _verdict_schema(),
                "Problem": _problem_schema(),
            }
        },
    }


def _listing(summary: str, item: str, filters: Sequence[Filter]) -> Document:
    limit = {"type": "integer", "minimum": 1, "maximum": LIMIT_MOST, "default": LIMIT_DEFAULT}
    parameters = [
        *map(_parameter, filters),
        _query("limit", "most items of one answer", limit),
        _query("page", "`next` of the answer before", {"type": "string"}),
    ]
    responses = {"200": _json("A page", _ref(f"{item}Page")), "400": _problem("A parameter cannot be used")}
    return _get(summary, responses, parameters)


def _alert() -> Document:
    found = {**_json("The newest revision", _ref("Alert")), "headers": {"ETag": _ETAG}}
    same = {"description": "The client has the newest revision", "headers": {"ETag": _ETAG}}
    responses = {"200": found, "304": same, **_failures()}
    return _get("One alert", responses, [_ID, _IF_NONE_MATCH])


def _events() -> Document:
    responses = {"200": _json("Every revision", _ref("AlertPage")), **_failures()}
    return _get("All revisions of an alert, oldest first", responses, [_ID])


def _verdict() -> Document:
    service = {"name": "service", "in": "path", "required": True, "schema": {"type": "string"}}
    responses = {
        "200": _json("What is known now; unknown is neither of the two others", _ref("Verdict")),
        "400": _problem("A parameter was given"),
    }
    return _get("Whether a service is healthy, for analyses of rollouts", responses, [service])


def _verdict_schema() -> Document:
    moment = {"type": ["string", "null"], "format": "date-time"}
    data = {
        "service": {"type": "string"},
        "verdict": {"enum": ["healthy", "anomalous", "unknown"]},
        "reason": {"type": "string"},
        "alerts": {"type": "array", "items": {"type": "string"}},
        "evaluated_at": moment,
        "expires_at": moment,
    }
    inner = {"type": "object", "properties": data, "required": list(data)}
    return {"type": "object", "properties": {"data": inner}, "required": ["data"]}


def _failures() -> Document:
    return {"400": _problem("A parameter was given"), "404": _problem("There is no such alert")}


def _plain(summary: str, *, failing: bool) -> Document:
    content = {"text/plain": {"schema": {"type": "string"}}}
    responses: Document = {"200": {"description": summary, "content": content}}
    if failing:
        responses["503"] = {"description": "Not so; the text says why", "content": content}
    return _get(summary, responses)


def _get(summary: str, responses: Document, parameters: Sequence[Document] = ()) -> Document:
    return {"get": {"summary": summary, "parameters": list(parameters), "responses": responses}}


def _parameter(filter: Filter) -> Document:
    schema: Document = {"type": "string"}
    if filter.allowed is not None:
        schema["enum"] = list(filter.allowed)
    if filter.is_time:
        schema["format"] = "date-time"
    return _query(filter.name, filter.meaning, schema)


def _query(name: str, description: str, schema: Document) -> Document:
    return {"name": name, "in": "query", "description": description, "schema": schema}


def _page(item: str) -> Document:
    properties = {
        "items": {"type": "array", "items": _ref(item)},
        "next": {"type": ["string", "null"], "description": "`page` of the next answer; null on the last"},
    }
    return {"type": "object", "properties": properties, "required": ["items", "next"]}


def _problem_schema() -> Document:
    texts = {name: {"type": "string"} for name in ("type", "title", "detail", "parameter")}
    return {
        "type": "object",
        "description": "RFC 9457",
        "properties": {**texts, "status": {"type": "integer"}},
        "required": ["type", "title", "status", "detail"],
    }


def _ref(name: str) -> Document:
    return {"$ref": f"#/components/schemas/{name}"}


def _json(description: str, schema: Document) -> Document:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _problem(description: str) -> Document:
    return {
        "description": description,
        "content": {"application/problem+json": {"schema": _ref("Problem")}},
    }
