"""The decision centre, killed while it hears alerts: it must end in the state that an unbroken run reaches."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import msgspec
from checks import assert_decisions_survived
from deciding import POLICY
from stack import RECOVERY_S, RESNET, SHAPE_JUMP, Service, decisions, load, read
from waiting import wait_until

from layerwatch.decision.rulebook import load_rulebook
from layerwatch.detectors.deciding.state import State
from layerwatch.detectors.decision_stage import DecisionStage
from layerwatch.detectors.pipeline import Pipeline
from layerwatch.hosting import kafka
from layerwatch.hosting.settings import Settings
from layerwatch.schemas.alerts import Alert
from layerwatch.schemas.codec import encode_json
from layerwatch.schemas.decisions import Decision
from layerwatch.schemas.topics import ALERTS

_CHANGELOG = "layerwatch-decision-decisions-changelog"
_DURING_S = 3.0


@lru_cache(maxsize=2)
def alerts_of(path: Path) -> list[Alert]:
    """Every revision that a recording leads to."""
    recording = load(path, "template", "template-0")
    pipeline = Pipeline()
    for manifest in recording.manifests:
        pipeline.manifest(manifest)
    said = [*(pipeline.update(batch)[0] for batch in recording), pipeline.finish()[0]]
    return [alert for alerts in said for alert in alerts]


def unbroken(settings: Settings, service: str, alerts: list[Alert]) -> tuple[list[Decision], State]:
    """What is decided, and what is remembered in the end, if nothing happens."""
    stage = DecisionStage(service, load_rulebook(settings).rules_for(service))
    out = [d for alert in alerts for d in stage.update(alert).decisions]
    while not stage.idle:
        out += stage.advance(stage.clock_s + POLICY.lease_s).decisions
    return out, comparable(stage.dump())


def comparable(data: bytes) -> State:
    """A state without the time up to which it was looked at."""
    return msgspec.structs.replace(msgspec.msgpack.decode(data, type=State), clock_s=0.0)


def kill_and_compare(
    settings: Settings, centre: Service, name: str, chance: random.Random, tell: Callable[[str], None]
) -> None:
    """One round: the centre runs before and after it."""
    path = chance.choice((RESNET, SHAPE_JUMP))
    alerts = [msgspec.structs.replace(alert, service=name) for alert in alerts_of(path)]
    expected, remembered = unbroken(settings, name, alerts)
    kill_at, away_s = chance.uniform(0, len(alerts)), chance.uniform(0, 1)
    producer = kafka.producer(settings)
    for number, alert in enumerate(alerts):
        if number == int(kill_at):
            time.sleep(chance.uniform(0, 0.3))
            centre.kill()
        producer.send(ALERTS, encode_json(alert), name.encode()).get(10)
        time.sleep(_DURING_S / len(alerts))
    kafka.abandon(producer)
    time.sleep(away_s)
    centre.start()

    def kept() -> State | None:
        key = name.encode() + b"\0state"
        found = [record.value for record in read(settings, _CHANGELOG) if record.key == key]
        return comparable(found[-1]) if found and found[-1] else None

    try:
        wait_until(lambda: kept() == remembered, f"{name} remembers what an unbroken run does", RECOVERY_S)
    except AssertionError:
        print("expected", remembered, "kept", kept(), sep="\n")
        raise
    assert_decisions_survived(expected, decisions(settings, name))
    tell(
        f"{name}: {path.stem} killed at alert {int(kill_at)} of {len(alerts)}, away {away_s:.1f} s: the same state"
    )
