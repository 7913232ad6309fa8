"""Publishes a recording as the agents of its instances would have."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from layerwatch.recording.obey import Obedient
from layerwatch.recording.outbox import Outbox, Producer
from layerwatch.recording.pace import Pace
from layerwatch.recording.recording import Recording
from layerwatch.schemas.codec import encode
from layerwatch.schemas.engines import manifest_key
from layerwatch.schemas.profiles import ProfileBatch
from layerwatch.schemas.topics import ENGINES, PROFILES


@dataclass(frozen=True, slots=True)
class Published:
    """What Kafka has acknowledged; `messages` without farewells that an interruption added."""

    messages: int
    executions: int
    interrupted: bool


def publish(
    recording: Recording,
    producer: Producer,
    speed: float,
    *,
    boot_ms: int,
    obedient: Obedient | None = None,
    stop: Callable[[], bool] = lambda: False,
    progress: Callable[[int], None] = lambda executions: None,
) -> Published:
    """Send manifests, then every message at its time, and wait until all have arrived.

    `boot_ms` is this run's, so that a second replay is a new boot and no repetition. `obedient` thins each message when it
    is due, by the orders that it has been given by then. When `stop` says so, each
    instance that has begun says goodbye and the rest is left out. Raises Unavailable when a record is lost.
    """
    outbox = Outbox(producer)
    for manifest in recording.manifests:
        outbox.send(ENGINES, manifest_key(manifest), encode(manifest))
    outbox.settle()
    pace = Pace(speed, min(batch.window_start_s for batch in recording))
    boots = _Boots(boot_ms)
    last: dict[str, ProfileBatch] = {}
    messages = executions = 0
    for recorded in recording:
        if not pace.wait(recorded.window_end_s, stop):
            break
        batch = boots.renewed(recorded if obedient is None else obedient.thinned(recorded))
        outbox.send(PROFILES, batch.instance, encode(batch))
        last[batch.instance] = batch
        messages, executions = messages + 1, executions + len(batch.end_to_end_ms) // 4
        progress(executions)
    interrupted = messages < len(recording.batches)
    if interrupted:
        _say_goodbye(outbox, last)
    outbox.settle()
    return Published(messages, executions, interrupted)


def _say_goodbye(outbox: Outbox, last: dict[str, ProfileBatch]) -> None:
    for batch in last.values():
        if batch.state != "leaving":
            outbox.send(PROFILES, batch.instance, encode(_farewell(batch)))


def _farewell(last: ProfileBatch) -> ProfileBatch:
    return ProfileBatch(
        service=last.service,
        instance=last.instance,
        boot_ms=last.boot_ms,
        sequence=last.sequence + 1,
        engine=last.engine,
        window_start_s=last.window_end_s,
        window_end_s=last.window_end_s,
        host=last.host,
        gpu=last.gpu,
        state="leaving",
        tier=last.tier,
        rate=last.rate,
    )


class _Boots:
    """Gives the recorded boots of an instance, in order, the times `first_ms`, `first_ms` + 1, ..."""

    def __init__(self, first_ms: int) -> None:
        self._first_ms = first_ms
        self._known: dict[str, dict[int, int]] = {}

    def renewed(self, batch: ProfileBatch) -> ProfileBatch:
        boots = self._known.setdefault(batch.instance, {})
        boot_ms = boots.setdefault(batch.boot_ms, self._first_ms + len(boots))
        return msgspec.structs.replace(batch, boot_ms=boot_ms)
