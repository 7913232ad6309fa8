"""A step of levels that no request feels yet: told as a notice, beside whatever else is open."""

from __future__ import annotations

import hashlib

import msgspec
import numpy as np

from layerwatch.detectors.arrays import State
from layerwatch.detectors.level_shift import LevelShift
from layerwatch.schemas.alerts import Cause, DetectorScore, Impact, LayerExcess
from layerwatch.schemas.engines import Layer
from layerwatch.schemas.signals import Episode

#: Share of the expected sum of layers from which a step is a trouble and not a notice. All layers together drift by a
#: tenth in half a minute, and by a sixth in minutes, with nothing wrong (source: healthy phases of the recordings).
_MATERIAL, _MATERIAL_TOGETHER = 0.04, 0.2

#: All layers together may take a quarter more for a second with nobody else on the GPU (an encoder, beside an agent, once in
#: a minute); what lasts is told, and from the median layer of 20 executions sooner.
_TOGETHER_S = 2.0

#: So many times its threshold a step is beyond doubt; a smaller one is told if the next block shows it too.
_PLAIN = 1.75

_MOST = 10
_NO_IMPACT = Impact(0, 0, 1.0, 1.0, 0.0, 0.0)


class LevelNotice:
    """At most one open notice of an instance's build."""

    def __init__(self, instance: str, engine: str) -> None:
        self._of = f"{instance}|{engine}"
        self._open: Episode | None = None
        self._closed: list[Episode] = []
        self._suspected = False  # the blocks before the latest showed it too

    def show(self, shifts: list[tuple[LevelShift, list[Layer]]], clock_s: float) -> None:
        """What the latest blocks show, with the layers of each."""
        small = [(shift, layers) for shift, layers in shifts if not is_material(shift)]
        suspected, self._suspected = self._suspected, bool(small)
        if not small:
            self._close(clock_s)
        plain = any(shift.score > _PLAIN * shift.threshold for shift, _ in small)
        if not small or not (suspected or plain):
            return
        shift, layers = max(small, key=lambda found: found[0].share)
        episode = self._episode(shift, layers, clock_s)
        if self._open is not None:
            kept = self._open
            episode = msgspec.structs.replace(
                episode, id=kept.id, onset_s=kept.onset_s, opened_s=kept.opened_s, updated_s=clock_s
            )
        self._open = episode

    def episodes(self) -> list[Episode]:
        """The open notice, and those that have closed since the last call."""
        told, self._closed = self._closed, []
        return told if self._open is None else [*told, self._open]

    def close(self, clock_s: float) -> list[Episode]:
        """End what is open."""
        self._close(clock_s)
        told, self._closed = self._closed, []
        return told

    def forget(self) -> None:
        self._open, self._closed, self._suspected = None, [], False

    def _close(self, clock_s: float) -> None:
        if self._open is not None:
            self._closed.append(msgspec.structs.replace(self._open, updated_s=clock_s, closed_s=clock_s))
            self._open = None

    def _episode(self, shift: LevelShift, layers: list[Layer], clock_s: float) -> Episode:
        text = f"{self._of}|level|{shift.onset_s * 1000:.0f}"
        return Episode(
            id=hashlib.sha256(text.encode()).hexdigest()[:16],
            kind="layer_latency",
            severity="info",
            onset_s=shift.onset_s,
            opened_s=clock_s,
            updated_s=clock_s,
            summary=sentence(shift),
            impact=_NO_IMPACT,
            layers=stepped(shift, layers),
            causes=[step_cause(shift)],
            detectors=[DetectorScore(shift.channel, round(shift.score, 4), round(shift.threshold, 4))],
        )

    def state(self) -> State:
        return {"suspected": self._suspected, "open": msgspec.to_builtins(self._open)}

    def load(self, state: State) -> None:
        self._suspected = state["suspected"]
        self._open = msgspec.convert(state["open"], Episode | None)


def is_material(shift: LevelShift) -> bool:
    """Whether requests feel it."""
    return shift.share >= (_MATERIAL_TOGETHER if shift.channel == "common_level" else _MATERIAL)


def is_lasting(shift: LevelShift, clock_s: float) -> bool:
    """Whether it is more than a short hitch."""
    return shift.channel != "common_level" or clock_s - shift.onset_s >= _TOGETHER_S


def sentence(shift: LevelShift) -> str:
    takes = "take {:.2f}x their" if shift.channel == "common_level" else "takes {:.2f}x its"
    time = takes.format(np.exp(shift.score))
    on = f" on the {shift.half} half of inputs" if shift.half else ""
    return f"{shift.where[:60]} {time} usual time{on}, {shift.share:.1%} of the sum of layers"


def step_cause(shift: LevelShift) -> Cause:
    beside = "" if shift.channel == "common_level" else "; the other layers as usual"
    return Cause("unknown", 0.4, sentence(shift) + beside)


def stepped(shift: LevelShift, layers: list[Layer]) -> list[LayerExcess]:
    """The layers of a step by excess, largest first, at most 10."""
    found = []
    for index in np.argsort(-shift.excess_ms)[:_MOST]:
        excess_ms, baseline_ms = float(shift.excess_ms[index]), float(shift.expected_ms[index])
        if excess_ms > 0:
            found.append(
                LayerExcess(
                    name=layers[index].name,
                    group=layers[index].group,
                    index=int(index),
                    baseline_ms=round(baseline_ms, 6),
                    observed_ms=round(baseline_ms + excess_ms, 6),
                    ratio=round(1 + excess_ms / max(baseline_ms, 1e-6), 3),
                    excess_ms=round(excess_ms, 6),
                )
            )
    return found
