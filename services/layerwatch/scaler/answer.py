"""What an autoscaler is told of a service: a pure function of its load, its decisions, and what people say.

The number is a floor: an autoscaler takes the largest of all its metrics, so 0 changes nothing. What is not known is not 0.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from layerwatch.schemas.decisions import Decision
from layerwatch.schemas.load import Load
from layerwatch.schemas.times import unix_s


@dataclass(frozen=True, slots=True)
class Said:
    """What people say of a service at this moment. `hands_off`: why nothing is to be asked for; None if it may."""

    mode: str
    hands_off: str | None = None
    least: int | None = None
    most: int | None = None


@dataclass(frozen=True, slots=True)
class Known:
    """`replicas` to be ordered at least. 0 is the neutral value, and then `enforced` is False."""

    replicas: int
    enforced: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """Nothing can be said; `reason` says why, and what to do."""

    reason: str


Answer = Known | Unknown


def answer(
    load: Load | None,
    decisions: Sequence[Decision],
    counts: Sequence[tuple[float, int]],
    said: Said,
    now_s: float,
    stale_s: float,
) -> Answer:
    """`decisions` are the last of each target of the service; `counts` its instances of late, (unix s, how many), oldest first."""
    if load is None:
        return Unknown(
            "nothing was heard of this service: is its name right, and does `layerwatch processor` run?"
        )
    age_s = now_s - unix_s(load.at)
    if age_s > stale_s:
        return Unknown(
            f"the last that was heard is {age_s:.0f} s old: look at the service, its agents and the processor"
        )
    if said.hands_off is not None:
        return Known(0, False, f"hands off: {said.hands_off}")
    if said.mode != "enforce":
        return Known(0, False, f"mode {said.mode}: nothing is asked for")
    wishes = [(load.replicas, f"load ({load.basis})")] if load.replicas is not None else []
    wishes += [_wish(d, load, counts) for d in decisions if holds(d, now_s)]
    asked = [(replicas, why) for replicas, why in wishes if replicas]
    if not asked:
        return Known(0, False, "nothing is asked for")
    replicas, why = max(asked)
    return Known(_within(replicas, said), True, why)


def holds(decision: Decision, now_s: float) -> bool:
    """Whether its lease holds."""
    return decision.status == "active" and unix_s(decision.expires_at) > now_s


def _wish(decision: Decision, load: Load, counts: Sequence[tuple[float, int]]) -> tuple[int, str]:
    """Replicas that a decision asks for: its own number, or those there were when it was made, and one more; 0 for none."""
    if decision.target.domain != "capacity" or decision.target.instance != "*" or decision.mode != "enforce":
        return 0, ""
    if decision.action not in ("scale_out", "hold_scale_in"):
        return 0, ""
    given = decision.parameters.get("replicas")
    if isinstance(given, (int, float)) and given >= 1:
        replicas = int(given)
    else:
        # Never over those there are now: what was added would ask for more.
        there, remembered = _there(counts, unix_s(decision.issued_at), load)
        replicas = there + (decision.action == "scale_out" and remembered)
    return replicas, f"{decision.action}: {decision.reason}"


def _there(counts: Sequence[tuple[float, int]], at_s: float, load: Load) -> tuple[int, bool]:
    """Instances at a moment, and whether it is remembered; if not, those of the first moment that is."""
    if not counts:
        return load.instances, False
    place = bisect_right(counts, at_s, key=lambda count: count[0])
    return (counts[place - 1][1], True) if place else (counts[0][1], False)


def _within(replicas: int, said: Said) -> int:
    capped = replicas if said.most is None else min(replicas, said.most)
    return max(capped, said.least or 1)
