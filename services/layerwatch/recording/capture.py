"""Records what agents publish, until told to stop."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from layerwatch.schemas.codec import Reader
from layerwatch.schemas.engines import Manifest, merged
from layerwatch.schemas.errors import InvalidRecord, Unavailable
from layerwatch.schemas.profiles import ProfileBatch

log = logging.getLogger(__name__)

_MANIFESTS = Reader(Manifest)
_BATCHES = Reader(ProfileBatch)


class Source(Protocol):
    """What is used of `Tap`."""

    def engines(self) -> Iterable[bytes | None]: ...
    def start(self) -> None: ...
    def profiles(self) -> Iterable[bytes | None]: ...


class Recorder(Protocol):
    """What is used of `ParquetRecorder`."""

    def manifest(self, manifest: Manifest) -> None: ...
    def batch(self, batch: ProfileBatch) -> None: ...


@dataclass(slots=True)
class Captured:
    """What was recorded; `undecodable` counts records that were left out."""

    messages: int = 0
    executions: int = 0
    undecodable: int = 0
    engines: set[str] = field(default_factory=set)
    #: Engines whose messages were recorded and whose manifest was on the topic.
    described: set[str] = field(default_factory=set)


def capture(
    source: Source,
    recorder: Recorder,
    *,
    duration_s: float = float("inf"),
    executions: float = float("inf"),
    stop: Callable[[], bool] = lambda: False,
    progress: Callable[[int], None] = lambda executions: None,
    clock: Callable[[], float] = time.monotonic,
) -> Captured:
    """Record for a time, or at least so many executions (whole messages), or until `stop` says so.

    Manifests are read before and after, since new builds may come in between; those that no message refers to are
    left out. Messages whose manifest nobody published are kept.
    """
    captured = Captured()
    manifests = _manifests(source, captured)
    source.start()
    end_s = clock() + duration_s
    while clock() < end_s and captured.executions < executions and not stop():
        for value in source.profiles():
            _record(value, recorder, captured)
            if captured.executions >= executions:
                break
        progress(captured.executions)
    try:
        manifests |= _manifests(source, Captured())
    except Unavailable as error:
        log.warning("builds published while recording are not described in the file: %s", error)
    _describe(manifests, recorder, captured)
    return captured


def _record(value: bytes | None, recorder: Recorder, captured: Captured) -> None:
    try:
        batch = _BATCHES.decode(value or b"")
    except InvalidRecord as error:
        _left_out(captured, error)
        return
    recorder.batch(batch)
    captured.messages += 1
    captured.executions += len(batch.end_to_end_ms) // 4
    captured.engines.add(batch.engine)


def _manifests(source: Source, captured: Captured) -> dict[str, Manifest]:
    found: dict[str, Manifest] = {}
    for value in source.engines():
        if value is None:  # a tombstone: the build was forgotten on purpose
            continue
        try:
            manifest = _MANIFESTS.decode(value)
        except InvalidRecord as error:
            _left_out(captured, error)
        else:
            found[manifest.engine] = merged(found.get(manifest.engine), manifest)
    return found


def _describe(manifests: dict[str, Manifest], recorder: Recorder, captured: Captured) -> None:
    for engine in sorted(captured.engines & manifests.keys()):
        recorder.manifest(manifests[engine])
        captured.described.add(engine)


def _left_out(captured: Captured, error: InvalidRecord) -> None:
    captured.undecodable += 1
    if captured.undecodable == 1:
        log.warning("a record is left out, as others of its kind will be: %s", error)
