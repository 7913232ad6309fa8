"""Runs all stages over a recording, and judges what they say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from layerwatch.detectors.models import Models, shipped
from layerwatch.detectors.pipeline import Pipeline
from layerwatch.evaluation.conditions import Condition
from layerwatch.evaluation.executions import InstanceTable, tables_of
from layerwatch.evaluation.naive import NaiveVerdict, compare
from layerwatch.evaluation.obeyed import Obeyed, obeyed
from layerwatch.evaluation.verdict import Judgement, judge
from layerwatch.recording.obey import Obedient
from layerwatch.recording.recording import Recording
from layerwatch.schemas.alerts import Alert
from layerwatch.schemas.errors import InvalidRecord
from layerwatch.schemas.profiles import ProfileBatch
from layerwatch.schemas.times import unix_s


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One recording under one condition.

    `spoke_s`: when each detector first was part of an alert, by the alert's id and the detector's name (unix s).
    `refused`: messages that the detectors could not read. `obeyed`: what sampling did, where it followed the run's own orders.
    """

    recording: Recording = field(repr=False)
    condition: Condition
    judgement: Judgement
    naive: list[NaiveVerdict]
    tables: list[InstanceTable] = field(repr=False)
    spoke_s: dict[tuple[str, str], float] = field(repr=False)
    refused: int
    obeyed: Obeyed | None = None


def evaluate(
    recording: Recording,
    condition: Condition,
    models: Models | None = None,
    progress: Callable[[int], None] = lambda executions: None,
) -> Evaluation:
    """Run the detectors and the naive ones over a recording; `progress` is told the executions that are done."""
    recording = condition.apply(recording)
    obedient = Obedient(condition.sample) if condition.obeys else None
    revisions, refused, sent = _run(recording, models, progress, obedient)
    recording = replace(recording, batches=sent)
    tables = tables_of(recording)
    judgement = judge(recording.phases, revisions, tables)
    naive = compare(tables, recording.phases) if judgement.labelled else []
    return Evaluation(
        recording,
        condition,
        judgement,
        naive,
        tables,
        _spoke_s(revisions),
        refused,
        obeyed(judgement, sent) if condition.obeys else None,
    )


def alerts_of(recording: Recording, models: Models | None = None) -> tuple[list[Alert], int]:
    """All revisions of all alerts, to the end of every one, and how many messages were refused."""
    return _run(recording, models, lambda executions: None, None)[:2]


def _run(
    recording: Recording,
    models: Models | None,
    progress: Callable[[int], None],
    obedient: Obedient | None,
) -> tuple[list[Alert], int, list[ProfileBatch]]:
    """Alerts, messages refused, and the messages as they were sent: thinned by the run's own orders where they are obeyed."""
    pipeline = Pipeline(models or shipped())
    for manifest in recording.manifests:
        pipeline.manifest(manifest)
    alerts: list[Alert] = []
    sent: list[ProfileBatch] = []
    executions = refused = 0
    for recorded in recording:
        batch = obedient.thinned(recorded) if obedient is not None else recorded
        sent.append(batch)
        try:
            alerts += pipeline.update(batch)[0]
        except InvalidRecord:  # a dead letter on Kafka
            refused += 1
        if obedient is not None:
            obedient.take(pipeline.orders)
        executions += len(batch.end_to_end_ms) // 4
        progress(executions)
    return alerts + pipeline.finish()[0], refused, sent


def _spoke_s(revisions: list[Alert]) -> dict[tuple[str, str], float]:
    spoke_s: dict[tuple[str, str], float] = {}
    for alert in revisions:
        time = alert.opened_at if alert.revision == 1 else alert.updated_at
        for detector in alert.detectors:
            spoke_s.setdefault((alert.id, detector.name), unix_s(time))
    return spoke_s
