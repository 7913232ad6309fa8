"""The phases of a recording in another order, after another time to learn: the same faults, met otherwise."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import msgspec
import numpy as np

from layerwatch.recording.excerpt import excerpt
from layerwatch.recording.recording import Phase, Recording
from layerwatch.recording.shift import shifted
from layerwatch.schemas.errors import ConfigError
from layerwatch.schemas.profiles import ProfileBatch

#: A healthy phase of fewer executions is too short to learn from, and comes later.
_LEAST_LEARNT = 500
_COLD_S = 1.0  # of a recording's beginning


def shuffled(recording: Recording, seed: int) -> Recording:
    """Faults change places with faults and healthy phases with healthy ones, so that every fault still has an end.

    A part of the first phase, up to what is needed to learn from it, is left out. Raises ConfigError for a recording
    without phases, or without a healthy one that is long enough.
    """
    rng = np.random.default_rng(seed)
    executed = [_times_s(recording, phase) for phase in recording.phases]
    long_enough = [
        i for i, phase in enumerate(recording.phases) if phase.healthy and len(executed[i]) >= _LEAST_LEARNT
    ]
    if not long_enough:
        raise ConfigError(
            f"{recording.name} has no healthy phase of {_LEAST_LEARNT} executions to learn from: record longer, and label it"
        )
    first = long_enough[int(rng.integers(len(long_enough)))]
    begin = int(rng.integers(len(executed[first]) - _LEAST_LEARNT + 1))
    phases = list(recording.phases)
    phases[first] = replace(phases[first], start_s=float(executed[first][begin]))
    return joined(recording, [phases[i] for i in _order(phases, first, rng)], f"{recording.name}~{seed}")


def _order(phases: list[Phase], first: int, rng: np.random.Generator) -> list[int]:
    """`first`, then the other phases: healthy and faulty ones each shuffled among their own places."""
    healthy = [i for i, phase in enumerate(phases) if phase.healthy and i != first]
    faulty = [i for i, phase in enumerate(phases) if not phase.healthy]
    queues = {True: rng.permutation(healthy).tolist(), False: rng.permutation(faulty).tolist()}
    places = [phase.healthy for phase in phases]
    places.remove(True)  # of the first
    return [first, *(int(queues[place].pop()) for place in places)]


def joined(recording: Recording, phases: list[Phase], name: str) -> Recording:
    """Some phases of a recording, one right after another from its start on.

    What a process does first is slow by nature, and is left out where it comes later.
    """
    batches: list[ProfileBatch] = []
    moved: list[Phase] = []
    sequence: Counter[str] = Counter()
    clock_s = recording.start_s
    warm_s = recording.start_s + _COLD_S
    for phase in phases:
        if moved and phase.start_s < warm_s:
            phase = replace(phase, start_s=min(warm_s, phase.end_s))
        by_s = clock_s - phase.start_s
        for batch in recording:
            part = excerpt(batch, phase.start_s, phase.end_s)
            if part is not None:
                part = msgspec.structs.replace(part, sequence=sequence[batch.instance], state="serving")
                batches.append(shifted(part, by_s))
                sequence[batch.instance] += 1
        moved.append(replace(phase, start_s=clock_s, end_s=phase.end_s + by_s))
        clock_s = phase.end_s + by_s
    return replace(recording, name=name, batches=batches, phases=moved)


def _times_s(recording: Recording, phase: Phase) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    times_s = np.concatenate([np.frombuffer(batch.times_s, "<f8") for batch in recording])
    return np.sort(times_s[(times_s >= phase.start_s) & (times_s <= phase.end_s)])
