"""All stages on whole recordings: what comes out is what the contracts promise."""

from __future__ import annotations

import json
from datetime import datetime
from functools import lru_cache
from typing import Any

import msgspec
import pytest
from detection import NAMES, models, recording
from jsonschema import Draft202012Validator, FormatChecker
from service_signals import check_revisions

from layerwatch.detectors.pipeline import Pipeline
from layerwatch.schemas import json as schemas
from layerwatch.schemas.alerts import Alert
from layerwatch.schemas.codec import encode_json
from layerwatch.schemas.decisions import Decision
from layerwatch.schemas.errors import InvalidRecord
from layerwatch.schemas.times import unix_s

FORMATS = FormatChecker()


def is_date_time(value: object) -> bool:
    """jsonschema's own check is left out silently where its extra is not installed."""
    return not isinstance(value, str) or datetime.fromisoformat(value).tzinfo is not None


FORMATS.checks("date-time", raises=ValueError)(is_date_time)


def validator(name: str) -> Any:
    return Draft202012Validator(schemas.load(name), format_checker=FORMATS)


def pipeline_for(name: str) -> Pipeline:
    pipeline = Pipeline(models())
    for manifest in recording(name).manifests:
        pipeline.manifest(manifest)
    return pipeline


@lru_cache(maxsize=8)
def told(name: str) -> tuple[list[Alert], list[Decision]]:
    pipeline = pipeline_for(name)
    alerts, decisions = [], []
    for batch in recording(name):
        out = pipeline.update(batch)
        alerts += out[0]
        decisions += out[1]
    out = pipeline.finish()
    return alerts + out[0], decisions + out[1]


def test_the_format_of_times_is_looked_at() -> None:
    alert = json.loads(encode_json(told("resnet50-h200")[0][0]))
    assert validator("alert").is_valid(alert)
    assert not validator("alert").is_valid(alert | {"opened_at": "2026-13-45T99:00:00.000Z"})


@pytest.mark.parametrize("name", NAMES)
def test_everything_that_is_told_fits_the_shipped_schemas(name: str) -> None:
    alerts, decisions = told(name)
    for kind, records in (("alert", alerts), ("decision", decisions)):
        check = validator(kind)
        for record in records:
            check.validate(json.loads(encode_json(record)))


@pytest.mark.parametrize("name", NAMES)
def test_alerts_are_told_in_order_and_end(name: str) -> None:
    last = check_revisions(told(name)[0])
    assert all(alert.status == "resolved" for alert in last.values())


@pytest.mark.parametrize("name", NAMES)
def test_decisions_end_and_name_alerts_that_were_told(name: str) -> None:
    alerts, decisions = told(name)
    last = {decision.id: decision for decision in decisions}
    assert all(decision.status in ("withdrawn", "expired") for decision in last.values())
    assert {id for decision in decisions for id in decision.alerts} <= {alert.id for alert in alerts}
    assert all(unix_s(d.issued_at) <= unix_s(d.expires_at) for d in decisions)


def test_there_is_something_to_tell() -> None:
    assert told("resnet50-h200")[0]
    assert told("resnet50-h200")[1]


def test_the_same_recording_again_adds_nothing() -> None:
    name = "resnet50-h200"
    pipeline = pipeline_for(name)
    alerts: list[Alert] = []
    for batch in recording(name):
        alerts += pipeline.update(batch)[0]
    for batch in recording(name):
        assert pipeline.update(batch) == ([], [])
    alerts += pipeline.finish()[0]
    assert alerts == told(name)[0]


@pytest.mark.parametrize("repeated", [0, 20])
def test_an_input_that_stops_in_the_middle_closes_everything(repeated: int) -> None:
    name = "resnet50-h200"
    made = recording(name)
    pipeline, alerts, decisions = pipeline_for(name), [], []
    middle = next(i for i, b in enumerate(made.batches) if b.window_end_s - made.start_s > 17)
    for batch in [*made.batches[:middle], *made.batches[:repeated]]:
        out = pipeline.update(batch)
        alerts += out[0]
        decisions += out[1]
    assert alerts[-1].status == "firing"
    out = pipeline.finish()
    last = check_revisions(alerts + out[0])
    assert all(alert.status == "resolved" for alert in last.values())
    assert (decisions + out[1])[-1].status != "active"
    assert pipeline.finish() == ([], [])


def test_a_message_that_is_refused_closes_and_changes_nothing() -> None:
    name = "resnet50-h200"
    pipeline = pipeline_for(name)
    alerts: list[Alert] = []
    for i, batch in enumerate(recording(name)):
        if i % 7 == 0:
            with pytest.raises(InvalidRecord):
                pipeline.update(msgspec.structs.replace(batch, sequence=10**6, end_to_end_ms=b"1"))
        alerts += pipeline.update(batch)[0]
    assert alerts + pipeline.finish()[0] == told(name)[0]


def test_two_instances_of_a_service_share_their_alerts() -> None:
    name = "resnet50-h200"
    pipeline = pipeline_for(name)
    alerts: list[Alert] = []
    for batch in recording(name):
        alerts += pipeline.update(batch)[0]
        alerts += pipeline.update(msgspec.structs.replace(batch, instance="sibling"))[0]
    alerts += pipeline.finish()[0]
    last = check_revisions(alerts)
    assert len(last) == len({alert.id for alert in told(name)[0]})
    assert all(len(alert.instances) == 2 for alert in last.values())


def test_a_profile_that_a_later_manifest_describes_is_judged_as_if_it_had_been_known() -> None:
    """The second profile runs only after thousands of executions: its manifest need not be there before."""
    whole = recording("shape-jump-h200")
    (manifest,) = whole.manifests
    first = next(n for n, batch in enumerate(whole) if any(block.profile == 1 for block in batch.layers))
    told: list[list[Alert]] = []
    for parts in (False, True):
        pipeline, alerts = Pipeline(models()), []
        pipeline.manifest(
            msgspec.structs.replace(manifest, profiles=manifest.profiles[:1]) if parts else manifest
        )
        for number, batch in enumerate(whole):
            if parts and number == first:
                pipeline.manifest(msgspec.structs.replace(manifest, profiles=manifest.profiles[1:]))
            alerts += pipeline.update(batch)[0]
        told.append(alerts)
    assert first > 30
    assert told[0]
    assert told[1] == told[0]
