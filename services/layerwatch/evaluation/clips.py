"""Each phase of a recording as a clip of its own: after a healthy lead-in, and with the healthy time that followed it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from layerwatch.evaluation.shuffled import joined
from layerwatch.recording.recording import Phase, Recording
from layerwatch.schemas.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Clip:
    """`phase` is the one that it is about, at its times within the clip."""

    recording: Recording
    phase: Phase


def clips_of(recording: Recording) -> Iterator[Clip]:
    """One for each phase but the first healthy one, which leads in. Raises ConfigError where there is none."""
    phases = recording.phases
    lead = next((i for i, phase in enumerate(phases) if phase.healthy), None)
    if lead is None:
        raise ConfigError(f"{recording.name} has no healthy phase to lead in: record one, and label it")
    for i, phase in enumerate(phases):
        if i == lead:
            continue
        after = phases[i + 1 : i + 2] if i + 1 < len(phases) and phases[i + 1].healthy else []
        name = f"{recording.name}/{phase.name}"
        clip = joined(recording, [phases[lead], phase, *([] if phase.healthy else after)], name)
        yield Clip(clip, clip.phases[1])
