"""What sampling did in a run that obeyed its own orders: how soon it was raised, and what it took to find each fault."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from layerwatch.evaluation.verdict import FaultVerdict, Judgement
from layerwatch.schemas.control import RATES
from layerwatch.schemas.profiles import ProfileBatch


@dataclass(frozen=True, slots=True)
class Raised:
    """Of one fault.

    `before`: the tier in force when it began. `after_s`: until the first message of a higher tier begins, 0 where it was
    raised before, None where it never was. `samples`: executions whose layers were known from then on (from the fault's
    begin where it was raised before) until the alert, or the fault's end without one.
    """

    before: str
    after_s: float | None
    samples: int


@dataclass(frozen=True, slots=True)
class Obeyed:
    """`raised`: of each fault of the judgement, in order. The rest is of healthy phases, as long as no fault is just over.

    `suspicions`: times that evidence began; `evidence_s`, `canary_s`: how long each was in force; `executions` and, of them,
    `sampled`.
    """

    raised: list[Raised]
    healthy_s: float
    suspicions: int
    evidence_s: float
    canary_s: float
    executions: int
    sampled: int


#: After a fault, what follows is its end and the recovery, in which evidence goes on (s).
_AFTERMATH_S = 45.0


def obeyed(judgement: Judgement, sent: Sequence[ProfileBatch]) -> Obeyed:
    """From the messages as they were sent, in order, of one instance or more."""
    return _healthy(judgement, sent, [_raised(fault, sent) for fault in judgement.faults])


def _raised(fault: FaultVerdict, sent: Sequence[ProfileBatch]) -> Raised:
    until_s = fault.first.at_s if fault.first is not None else fault.phase.end_s
    before = "baseline"
    within = []
    for batch in sent:
        if batch.window_end_s <= fault.begun_s:
            before = batch.tier
        elif batch.window_end_s <= until_s + 1e-3:
            within.append(batch)
    if RATES[before] > RATES["baseline"]:
        return Raised(before, 0.0, sum(map(_sampled, within)))
    first = next((i for i, b in enumerate(within) if RATES[b.tier] > RATES["baseline"]), None)
    if first is None:
        return Raised(before, None, 0)
    after_s = max(0.0, within[first].window_start_s - fault.begun_s)
    return Raised(before, after_s, sum(map(_sampled, within[first:])))


def _healthy(judgement: Judgement, sent: Sequence[ProfileBatch], raised: list[Raised]) -> Obeyed:
    phases = [verdict.phase for verdict in judgement.healthy]
    over_s = [fault.phase.end_s for fault in judgement.faults]
    healthy_s = evidence_s = canary_s = 0.0
    executions = sampled = suspicions = 0
    tier: dict[str, str] = {}
    for batch in sent:
        was, tier[batch.instance] = tier.get(batch.instance, "baseline"), batch.tier
        at_s, took_s = batch.window_start_s, batch.window_end_s - batch.window_start_s
        inside = any(phase.start_s <= batch.window_end_s <= phase.end_s for phase in phases)
        if not inside or any(0 <= at_s - end_s < _AFTERMATH_S for end_s in over_s):
            continue
        healthy_s += took_s
        evidence_s += took_s * (batch.tier == "evidence")
        canary_s += took_s * (batch.tier == "canary")
        suspicions += batch.tier == "evidence" and was in ("off", "baseline")
        executions += len(batch.end_to_end_ms) // 4
        sampled += _sampled(batch)
    return Obeyed(raised, healthy_s, suspicions, evidence_s, canary_s, executions, sampled)


def _sampled(batch: ProfileBatch) -> int:
    """Executions of a message whose layers are known."""
    return sum(len(block.rows) // 4 for block in batch.layers)
