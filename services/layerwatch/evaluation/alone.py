"""Each fault of a recording as a clip of its own: all that is healthy first, then the fault, then a healthy end.

What is healthy but a change (of shapes, of the build) comes soon after the beginning, and the first healthy phase once more
before the fault, so that it meets an instance that nothing has been suspected of for a while.
"""

from __future__ import annotations

from dataclasses import replace

from layerwatch.evaluation.shuffled import joined
from layerwatch.recording.recording import Phase, Recording
from layerwatch.schemas.errors import ConfigError

#: Left out of a healthy phase's beginning: the end of the fault before (s).
_AFTERMATH_S = 2.0
_UNCHANGED = "normal"


def alone(recording: Recording) -> list[Recording]:
    """A clip for each faulty phase, in order; raises ConfigError for a recording without healthy and faulty phases."""
    healthy = [_settled(recording, i) for i, phase in enumerate(recording.phases) if phase.healthy]
    faults = [phase for phase in recording.phases if not phase.healthy]
    if not healthy or not faults:
        raise ConfigError(
            f"{recording.name} has no healthy phase and fault to make a clip of: label its phases"
        )
    lead_in = [healthy[0], *sorted(healthy[1:], key=lambda phase: phase.name == _UNCHANGED)]
    clips = []
    for fault in faults:
        name = f"{recording.name}/{fault.name}"
        clips.append(joined(recording, [*lead_in, healthy[0], fault, healthy[0]], name))
    return clips


def _settled(recording: Recording, index: int) -> Phase:
    phase = recording.phases[index]
    after_fault = index > 0 and not recording.phases[index - 1].healthy
    start_s = min(phase.start_s + _AFTERMATH_S * after_fault, phase.end_s)
    return replace(phase, start_s=start_s)
