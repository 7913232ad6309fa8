"""Stand-ins for PagerDuty, Slack and webhooks: real HTTP servers on loopback that hold to the published contracts.

The services themselves cannot be had in a test. What is checked and answered is in each one's API reference (PagerDuty:
Events API v2, "Send an alert event"; Slack: chat.postMessage, chat.update; Alertmanager: webhook, version 4).
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType
from typing import Any, NamedTuple

ROUTING_KEY = "0123456789abcdef0123456789abcdef"
SLACK_TOKEN = "xoxb-1234567890-abcdefghij"
WEBHOOK_TOKEN = "token-of-the-webhook"


class Reply(NamedTuple):
    status: int
    body: Any
    headers: Mapping[str, str] = MappingProxyType({})
    after_s: float = 0.0  # how long the answer takes


class Heard(NamedTuple):
    path: str
    headers: dict[str, str]
    body: Any
    reply: Reply


class OtherSide:
    """An HTTP server on loopback. `answer` judges a request; `faults` are answered first, one a request."""

    def __init__(self, answer: Callable[[str, dict[str, str], Any], Reply], port: int = 0) -> None:
        self.heard: list[Heard] = []
        self.faults: list[Reply] = []
        self.slow_s = 0.0  # between doing what is asked and saying so
        side = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                headers = {name.lower(): value for name, value in self.headers.items()}
                reply = side.faults.pop(0) if side.faults else answer(self.path, headers, body)
                side.heard.append(Heard(self.path, headers, body, reply))
                time.sleep(reply.after_s or side.slow_s)
                content = json.dumps(reply.body).encode()
                self.send_response(reply.status)
                for name, value in {"Content-Type": "application/json", **reply.headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                with suppress(ConnectionError):  # who asked may have given up, or been killed
                    self.end_headers()
                    self.wfile.write(content)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    @property
    def taken(self) -> list[Heard]:
        """What was answered well."""
        return [heard for heard in self.heard if heard.reply.status < 300]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class PagerDuty(OtherSide):
    """Events API v2; `pages` is what a person's telephone heard: the keys of incidents, in order of opening."""

    def __init__(self) -> None:
        self.open: set[str] = set()
        self.pages: list[str] = []
        self.resolved: list[str] = []
        super().__init__(self._answer)

    def _answer(self, path: str, headers: dict[str, str], body: Any) -> Reply:
        problem = _pagerduty_problem(body)
        if path != "/v2/enqueue" or problem:
            errors = {"status": "invalid event", "message": "Event object is invalid", "errors": [problem]}
            return Reply(400, errors)
        key = body["dedup_key"]
        if body["event_action"] == "trigger" and key not in self.open:
            self.open.add(key)
            self.pages.append(key)
        if body["event_action"] == "resolve" and key in self.open:
            self.open.remove(key)
            self.resolved.append(key)
        return Reply(202, {"status": "success", "message": "Event processed", "dedup_key": key})


def _pagerduty_problem(body: Any) -> str:
    if body.get("routing_key") != ROUTING_KEY:
        return "Invalid routing_key"
    if not 0 < len(body.get("dedup_key", "")) <= 255:
        return "dedup_key must be 1 to 255 characters"
    if body.get("event_action") == "resolve":
        return ""
    payload = body.get("payload", {})
    if body.get("event_action") != "trigger" or not 0 < len(payload.get("summary", "")) <= 1024:
        return "'payload.summary' is missing or blank"
    if not payload.get("source"):
        return "'payload.source' is missing or blank"
    if payload.get("severity") not in ("critical", "error", "warning", "info"):
        return "'payload.severity' is invalid"
    if not isinstance(payload.get("custom_details", {}), dict) or len(json.dumps(body)) > 512_000:
        return "'payload.custom_details' is invalid"
    return "" if all("href" in link for link in body.get("links", [])) else "'links' is invalid"


class Slack(OtherSide):
    """chat.postMessage and chat.update; `messages` by time stamp, `threads` by that of the first message."""

    def __init__(self) -> None:
        self.messages: dict[str, Any] = {}
        self.threads: dict[str, list[Any]] = {}
        super().__init__(self._answer)

    def _answer(self, path: str, headers: dict[str, str], body: Any) -> Reply:
        if headers.get("authorization") != f"Bearer {SLACK_TOKEN}":
            return _slack_error("invalid_auth")
        if body.get("channel") not in ("#oncall", "C1"):
            return _slack_error("channel_not_found")
        if not body.get("text") and not body.get("blocks"):
            return _slack_error("no_text")
        if any(len(block["text"]["text"]) > 3000 for block in body.get("blocks", [])):
            return _slack_error("invalid_blocks")
        if path == "/api/chat.postMessage":
            ts = body.get("thread_ts") or f"{1_000_000 + len(self.messages)}.000100"
            if "thread_ts" in body:
                self.threads.setdefault(ts, []).append(body)
            else:
                self.messages[ts] = body
            return Reply(200, {"ok": True, "channel": "C1", "ts": ts})
        if path == "/api/chat.update" and body.get("channel") == "C1":
            if body["ts"] not in self.messages:
                return _slack_error("message_not_found")
            self.messages[body["ts"]] = body
            return Reply(200, {"ok": True, "channel": "C1", "ts": body["ts"]})
        return _slack_error("channel_not_found")


def _slack_error(error: str) -> Reply:
    return Reply(200, {"ok": False, "error": error})


class Webhook(OtherSide):
    """Takes the body that Alertmanager sends."""

    def __init__(self) -> None:
        super().__init__(self._answer)

    def _answer(self, path: str, headers: dict[str, str], body: Any) -> Reply:
        if headers.get("authorization") != f"Bearer {WEBHOOK_TOKEN}":
            return Reply(401, {"error": f"{headers.get('authorization')} is not known"})  # echoes, as some do
        needed = {"version", "groupKey", "status", "receiver", "groupLabels", "commonLabels", "alerts"}
        alert = {"status", "labels", "annotations", "startsAt", "endsAt", "generatorURL", "fingerprint"}
        if not needed <= body.keys() or not all(alert <= one.keys() for one in body["alerts"]):
            return Reply(422, {"error": "not Alertmanager's"})
        return Reply(200, {})
