"""Whether sampling more is taken for trouble: `python tests/benchmarks/on_twins.py FILE...`

Recordings were made with a profiler on every execution. Here those that are sampled run on a twin that takes 0.7 or 1.7 times
as long as the caller's own graph, as was seen on an H200, and the run's own orders are obeyed from 1 % on. JSON lines.
"""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from unittest import mock

import msgspec
import numpy as np

from layerwatch.detectors.models import shipped
from layerwatch.evaluation import run
from layerwatch.evaluation.conditions import Condition
from layerwatch.evaluation.totals import totals_of
from layerwatch.recording.obey import Obedient
from layerwatch.recording.open import open_recording
from layerwatch.schemas.profiles import IN_GRAPH, ON_TWIN, ProfileBatch


class OnTwins(Obedient):
    """Runs what is sampled on a twin."""

    def __init__(self, share: float, *, longer: float) -> None:
        super().__init__(share)
        self._longer = longer

    def thinned(self, batch: ProfileBatch) -> ProfileBatch:
        sent = super().thinned(batch)
        took_ms = np.frombuffer(sent.end_to_end_ms, "<f4").copy()
        flags = np.frombuffer(sent.flags or bytes(len(took_ms)), "u1") | np.uint8(IN_GRAPH)
        for block in sent.layers:
            rows = np.frombuffer(block.rows, "<u4")
            took_ms[rows] *= self._longer
            flags[rows] ^= np.uint8(IN_GRAPH | ON_TWIN)
        return msgspec.structs.replace(sent, flags=flags.tobytes(), end_to_end_ms=took_ms.tobytes())


def main(files: list[str]) -> None:
    models, condition = shipped(), Condition(sample=0.01, obeys=True)
    recordings = [open_recording(Path(file)) for file in files]
    for longer in (0.7, 1.0, 1.7):
        with mock.patch.object(run, "Obedient", partial(OnTwins, longer=longer)):
            got = totals_of([run.evaluate(recording, condition, models) for recording in recordings])
        found = {
            "faults": got.faults,
            "caught": got.caught,
            "in_time": got.in_time,
            "causes_right": got.causes_right,
            "false_alarms": got.false_alarms,
        }
        print(json.dumps({"measure": "on_twins", "longer": longer, **found}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
