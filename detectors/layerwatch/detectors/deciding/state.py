"""All that the decision centre remembers of a service. Plain data, kept with the stream's state."""

from __future__ import annotations

import msgspec

from layerwatch.detectors.deciding.policy import Policy
from layerwatch.schemas.alerts import Alert
from layerwatch.schemas.decisions import Decision


class Rules(msgspec.Struct, frozen=True):
    """What does not change while a process runs: the policy, and what people say of the service."""

    policy: Policy
    mode: str = "shadow"
    standby: str | None = None
    fallback: str | None = None
    startup_s: float = 120.0
    max_share: float = 0.5
    software: str = ""


class Override(msgspec.Struct, frozen=True):
    """An order of a person that holds on a target until `until_s` (event time)."""

    order: str
    revision: int
    said: str  # by whom and why
    action: str
    domain: str
    instance: str
    parameters: dict[str, str | int | float]
    until_s: float


class Standing(msgspec.Struct, frozen=True):
    """The orders of people as they stand. `killed`: why decisions are off; `marks`: when something was changed (event time)."""

    killed: str | None = None
    overrides: list[Override] = []
    marks: list[float] = []


class Firing(msgspec.Struct):
    """An alert that asks for something, as of its last revision."""

    id: str
    revision: int
    kind: str
    cause: str
    confidence: float
    severity: str
    summary: str
    instances: list[str]
    fleet: int
    started_s: float
    heard_s: float
    p99_ratio: float
    evidence: list[str]
    step: int  # of its rule: those before were of no use
    own_until_s: float = 0.0  # taken for our own doing until then


class Lease(msgspec.Struct):
    """An active decision, and what is needed to renew, judge and end it."""

    decision: Decision  # last revision
    cause: str
    asked_s: float  # when it was issued
    renewed_s: float
    ends_s: float
    wants: list[str]  # alerts that ask for it
    p99_ratio: float  # when it was issued
    fleet: int  # likewise
    obeyed: bool = False  # runtimes were seen to follow it
    hold_until_s: float | None = None  # it stays though no alert asks: what it cured cannot be seen
    judged: bool = False


class Held(msgspec.Struct, frozen=True):
    """An action that is wanted and may not be, and why."""

    action: str
    why: str


class Effect(msgspec.Struct, frozen=True):
    """A change of ours that somebody may have obeyed. `switched`: the instance whose engine it is, "" for load alone."""

    at_s: float
    switched: str


class State(msgspec.Struct):
    """Of one service. Times are event time in unix s."""

    service: str
    clock_s: float = 0.0
    heard_s: float = 0.0  # of the newest alert
    seen: dict[str, int] = {}  # alert id: last revision folded in
    firing: dict[str, Firing] = {}
    leases: dict[str, Lease] = {}  # by target key
    epochs: dict[str, int] = {}  # by target key; only grows
    ended_s: dict[str, float] = {}  # "target|action": its last end
    counted_s: list[float] = []  # when actions that count were issued, in the last hour
    effects: list[Effect] = []  # what we changed for real, lately
    useless_s: dict[str, float] = {}  # "cause|action": when it was of no use
    relapses: dict[str, int] = {}  # by target key: ways back that failed in a row
    held: dict[str, Held] = {}  # by target key: what was last told to be held back
    standing: Standing = Standing()
    entries: int = 0  # of the audit


class AlertRevised(msgspec.Struct, frozen=True):
    """Event: an alert's revision."""

    alert: Alert


class Ordered(msgspec.Struct, frozen=True):
    """Event: the orders that stand now."""

    standing: Standing


class Clock(msgspec.Struct, frozen=True):
    """Event: event time has come this far."""

    at_s: float


Event = AlertRevised | Ordered | Clock


def copy_of(state: State) -> State:
    """A deep copy."""
    return msgspec.msgpack.decode(msgspec.msgpack.encode(state), type=State)
