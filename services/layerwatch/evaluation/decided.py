"""What would have been decided: clips through all stages with the policy that is in use, in enforce and in shadow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import msgspec

from layerwatch.detectors.deciding.state import Rules
from layerwatch.detectors.decision_stage import GRACE_S, DecisionStage
from layerwatch.detectors.models import Models
from layerwatch.detectors.pipeline import Pipeline
from layerwatch.evaluation.clips import Clip
from layerwatch.evaluation.executions import begun_s, tables_of
from layerwatch.evaluation.expectations import expected_of
from layerwatch.schemas.alerts import Alert
from layerwatch.schemas.decisions import Decision
from layerwatch.schemas.times import unix_s


@dataclass(frozen=True, slots=True)
class DecidedVerdict:
    """A clip and what was decided in it. Delays are event time in s; None where nothing was decided.

    `wanted`: the action that one would want, "" for none, None where nobody can say. `alert`: the first cause of the
    first alert of warning or above. `actions`: what was decided, in order. `alert_s` and `decided_s` count from the
    phase's first execution, `ended_s` from its end: when the last decision had ended. `shadow_same`: whether in shadow the same
    was decided at the same time, all of it marked so.
    """

    clip: str
    phase: str
    healthy: bool
    wanted: str | None
    alert: str
    alert_s: float | None
    actions: list[str]
    decided_s: float | None
    ended_s: float | None
    shadow_same: bool

    @property
    def right(self) -> bool | None:
        """Whether what one would want was decided and nothing else; None where nobody can say."""
        if self.wanted is None:
            return None
        return self.actions == ([self.wanted] if self.wanted else []) and self.shadow_same


def decided(
    clip: Clip, rules: Rules, models: Models, progress: Callable[[int], None] = lambda executions: None
) -> DecidedVerdict:
    """Run a clip through all stages. `rules`: their mode is not looked at."""
    enforce = msgspec.structs.replace(rules, mode="enforce")
    heard, decisions = _run(clip, Pipeline(models, enforce), progress)
    shadow = _again(heard, msgspec.structs.replace(rules, mode="shadow"))
    began_s = begun_s(tables_of(clip.recording), clip.phase.start_s, clip.phase.end_s)
    first = next((a for alerts, _ in heard for a in alerts if a.severity != "info"), None)
    issued = [d for d in decisions if d.revision == 1]
    ended = [unix_s(d.expires_at) for d in decisions if d.status != "active"]
    return DecidedVerdict(
        clip=clip.recording.name,
        phase=clip.phase.name,
        healthy=clip.phase.healthy,
        wanted="" if clip.phase.healthy else expected_of(clip.phase.name).action,
        alert=first.causes[0].cause if first else "",
        alert_s=unix_s(first.opened_at) - began_s if first else None,
        actions=[d.action for d in issued],
        decided_s=unix_s(issued[0].issued_at) - began_s if issued else None,
        ended_s=max(ended) - clip.phase.end_s if ended else None,
        shadow_same=_essence(shadow) == _essence(decisions) and all(d.mode == "shadow" for d in shadow),
    )


def record_of(verdict: DecidedVerdict) -> dict[str, Any]:
    """The same as plain data."""
    return asdict(verdict) | {"right": verdict.right}


def _run(
    clip: Clip, pipeline: Pipeline, progress: Callable[[int], None]
) -> tuple[list[tuple[list[Alert], float]], list[Decision]]:
    """Alerts with the clock at which they were heard, and all revisions of all decisions."""
    for manifest in clip.recording.manifests:
        pipeline.manifest(manifest)
    heard: list[tuple[list[Alert], float]] = []
    decisions: list[Decision] = []
    executions = 0
    for batch in clip.recording:
        alerts, said = pipeline.update(batch)
        heard.append((alerts, batch.window_end_s))
        decisions += said
        executions += len(batch.end_to_end_ms) // 4
        progress(executions)
    alerts, said = pipeline.finish()
    heard.append((alerts, clip.recording.end_s))
    return heard, decisions + said


def _again(heard: list[tuple[list[Alert], float]], rules: Rules) -> list[Decision]:
    """What the same alerts lead to by other rules."""
    stage: DecisionStage | None = None
    out: list[Decision] = []
    for alerts, clock_s in heard:
        for alert in alerts:
            stage = stage or DecisionStage(alert.service, rules)
            out += stage.update(alert).decisions
        if stage is not None:
            out += stage.advance(clock_s - GRACE_S).decisions
    while stage is not None and not stage.idle:
        out += stage.advance(stage.clock_s + rules.policy.lease_s).decisions
    return out


def _essence(decisions: list[Decision]) -> list[tuple[str, str, str, str]]:
    """What began and ended when. What came of it is only judged where somebody obeys."""
    return [
        (d.target.key, d.action, d.status, d.issued_at if d.revision == 1 else d.expires_at)
        for d in decisions
        if d.revision == 1 or d.status != "active"
    ]
