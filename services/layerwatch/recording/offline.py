"""Runs the detectors over a recording in this process, without Kafka."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import IO

import msgspec

from layerwatch.detectors.pipeline import Pipeline
from layerwatch.recording.obey import Obedient
from layerwatch.recording.recording import Recording
from layerwatch.schemas.codec import encode_json
from layerwatch.schemas.errors import ConfigError


def run_offline(
    recording: Recording,
    alerts_path: Path | None,
    decisions_path: Path | None,
    progress: Callable[[int], None],
    obedient: Obedient | None = None,
) -> tuple[int, int]:
    """Write what the topics of alerts and decisions would hold, one JSON object a line; returns how many of each.

    A path of None keeps none. `progress` is told the executions that are done. `obedient` thins the messages, by the
    orders that the run itself gives. Raises ConfigError where a path cannot be written.
    """
    with ExitStack() as files:
        alerts = _Lines(files, alerts_path)
        decisions = _Lines(files, decisions_path)
        pipeline = Pipeline()
        for manifest in recording.manifests:
            pipeline.manifest(manifest)
        executions = 0
        for batch in recording:
            sent = batch if obedient is None else obedient.thinned(batch)
            new_alerts, new_decisions = pipeline.update(sent)
            if obedient is not None:
                obedient.take(pipeline.orders)
            alerts.write(new_alerts)
            decisions.write(new_decisions)
            executions += len(batch.end_to_end_ms) // 4
            progress(executions)
        new_alerts, new_decisions = pipeline.finish()
        alerts.write(new_alerts)
        decisions.write(new_decisions)
    return alerts.count, decisions.count


class _Lines:
    """Counts records, and writes them where there is a path."""

    def __init__(self, files: ExitStack, path: Path | None) -> None:
        self.count = 0
        self._file: IO[bytes] | None = None
        if path is not None:
            try:
                self._file = files.enter_context(path.open("wb"))
            except OSError as error:
                raise ConfigError(f"cannot write {path}: {error.strerror}; name another file") from error

    def write(self, records: Iterable[msgspec.Struct]) -> None:
        for record in records:
            self.count += 1
            if self._file is not None:
                self._file.write(encode_json(record) + b"\n")
