"""The policy: what to do about each cause, and how careful to be. Plain data from a TOML file, checked when it is read."""

from __future__ import annotations

import difflib
import sys
from importlib import resources
from typing import Any, Literal, TypeVar

import msgspec

from layerwatch.schemas.alerts import CAUSES, KINDS, Alert
from layerwatch.schemas.decisions import ACTIONS
from layerwatch.schemas.errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

#: Which of two actions on one target wins: the later in this list.
PRECEDENCE = ("none", "restore", "hold_scale_in", "shed", "scale_out", "fallback_precision", "failover")

_LEAST_EVIDENCE = {"failover": 2, "fallback_precision": 2}

T = TypeVar("T", bound=msgspec.Struct)


class PolicyError(ConfigError):
    """Raised for a policy that cannot be used. `key` is where: the tables' names and the key's."""

    def __init__(self, key: tuple[str, ...], said: str) -> None:
        super().__init__(f"{'.'.join(key)}: {said}" if key else said)
        self.key = key
        self.said = said


class ActionRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an action needs and how long it holds (s); the policy file explains each."""

    domain: Literal["capacity", "routing"]
    counts: bool = False
    per_instance: bool = False
    evidence: int = 1
    dwell_s: float = 0.0
    cooldown_s: float = 0.0
    expects: Literal["recovery", "capacity", "no_worse", "nothing"] = "nothing"
    within_s: float = 60.0
    if_useless: Literal["keep", "withdraw"] = "keep"
    hold_s: float = 0.0


class CauseRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The steps against a cause, mildest first, and what to tell people."""

    steps: list[str]
    reason: str
    expected: str


class Policy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All rules. Every action and every cause has one."""

    name: str
    version: int
    lease_s: float
    renew_s: float
    actions_per_hour: int
    reaction_s: float
    memory_s: float
    actions: dict[str, ActionRule]
    causes: dict[str, CauseRule]
    kinds: dict[str, CauseRule] = {}

    @property
    def label(self) -> str:
        """Name and version, as decisions carry it."""
        return f"{self.name}@{self.version}"

    def rule_for(self, kind: str, cause: str) -> CauseRule:
        """What is said of the kind of alert, else of its first cause, else of unknown causes."""
        return self.kinds.get(kind) or self.causes.get(cause) or self.causes["unknown"]


def parse_policy(text: str) -> Policy:
    """A policy from TOML; raises PolicyError with the key and the remedy."""
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise PolicyError((), f"{error}; the file must be TOML") from error
    tables: dict[str, dict[str, Any]] = {
        "actions": _rules(raw, "actions", ActionRule, ACTIONS),
        "causes": _rules(raw, "causes", CauseRule, CAUSES),
        "kinds": _rules(raw, "kinds", CauseRule, KINDS),
    }
    policy = _convert(raw | tables, Policy, ())
    _check(policy)
    return policy


def shipped_policy() -> Policy:
    """The policy that is used unless another one is named."""
    text = resources.files("layerwatch.detectors.shipped").joinpath("policy.toml").read_text("utf-8")
    return parse_policy(text)


def strongest(actions: list[str]) -> str:
    """Which of some actions on one target wins."""
    return max(actions, key=PRECEDENCE.index)


def is_told_only(alert: Alert) -> bool:
    """What is only worth knowing asks for nothing."""
    return alert.severity == "info"


def _rules(raw: dict[str, Any], table: str, kind: type[T], known: tuple[str, ...]) -> dict[str, T]:
    found = raw.get(table, {})
    if not isinstance(found, dict):
        raise PolicyError((table,), f"must be tables [{table}.NAME]")
    for name in found:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            meant = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
            raise PolicyError((table, name), f"there is no such name; {meant}")
    return {name: _convert(rule, kind, (table, name)) for name, rule in found.items()}


def _convert(raw: Any, kind: type[T], place: tuple[str, ...]) -> T:
    known = kind.__struct_fields__
    for key in raw if isinstance(raw, dict) else ():
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            meant = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
            raise PolicyError((*place, key), f"there is no such key; {meant}")
    try:
        return msgspec.convert(raw, kind)
    except msgspec.ValidationError as error:
        said, _, path = str(error).partition(" - at `$.")
        key = path.rstrip("`").split("[")[0]
        raise PolicyError((*place, key) if key else place, said) from error


def _check(policy: Policy) -> None:
    for name in ("lease_s", "renew_s", "actions_per_hour", "memory_s"):
        if getattr(policy, name) <= 0:
            raise PolicyError((name,), "must be above 0")
    if policy.renew_s >= policy.lease_s:
        raise PolicyError(("renew_s",), "must be below lease_s: a lease would end before it is renewed")
    for action in ACTIONS:
        if action not in policy.actions:
            raise PolicyError(("actions",), f"add a table [actions.{action}]: every action needs one")
        _check_action(action, policy.actions[action], policy)
    for cause in CAUSES:
        if cause not in policy.causes:
            raise PolicyError(("causes",), f"add a table [causes.{cause}]: every cause needs one")
    for table in ("causes", "kinds"):
        for name, rule in getattr(policy, table).items():
            _check_steps((table, name, "steps"), rule.steps)


def _check_action(action: str, rule: ActionRule, policy: Policy) -> None:
    place = ("actions", action)
    least = _LEAST_EVIDENCE.get(action, 0)
    if rule.evidence < least:
        raise PolicyError(
            (*place, "evidence"), f"{action} needs {least} independent kinds of evidence at least"
        )
    for name in ("dwell_s", "cooldown_s", "within_s", "hold_s"):
        if getattr(rule, name) < 0:
            raise PolicyError((*place, name), "must not be below 0")
    if rule.dwell_s >= policy.lease_s:
        raise PolicyError(
            (*place, "dwell_s"), "must be below lease_s: what is not renewed ends with its lease"
        )


def _check_steps(place: tuple[str, ...], steps: list[str]) -> None:
    if not steps:
        raise PolicyError(place, 'name one action at least; "none" tells people only')
    for step in steps:
        if step not in ACTIONS or step == "restore":
            can = ", ".join(action for action in ACTIONS if action != "restore")
            raise PolicyError(place, f"{step!r} is no step: one of {can}")
