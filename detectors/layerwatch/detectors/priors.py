"""What is known of builds before an instance serves them: learnt by other instances, told through layerwatch.baselines."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import msgspec

from layerwatch.detectors.arrays import State, pack, unpack
from layerwatch.schemas.baselines import MAX_DATA_BYTES, BaselineRecord

_BUILDS = 64  # remembered; the ones told of longest ago are forgotten
_AGAIN_S = 600.0  # event time between two priors of a build
_ASTRAY_S = 86_400.0  # a prior from so far ahead was told by a clock that is wrong
_GROWTH = 2.0  # ... or sooner, once an instance knows so many times as much


@dataclass(frozen=True, slots=True)
class Prior:
    """State of a `BuildScorer` that is free of whatever concerns one instance only."""

    build: str
    service: str
    at_s: float
    executions: int
    data: bytes

    def state(self) -> State:
        return unpack(self.data)


class Priors:
    """The newest prior of each build, of one version of the state. May grow while in use."""

    def __init__(self, state_version: int) -> None:
        self._version = state_version
        self._known: dict[str, Prior] = {}
        self._pieces: dict[str, dict[int, BaselineRecord]] = {}

    def take(self, record: BaselineRecord) -> None:
        """A record of the topic; one of another version, or of a set that is not complete yet, changes nothing."""
        if record.state_version != self._version or not 0 <= record.part < record.parts:
            return
        pieces = self._pieces.setdefault(record.build, {})
        pieces[record.part] = record
        wanted = [pieces.get(part) for part in range(record.parts)]
        whole = [
            p for p in wanted if p is not None and (p.instance, p.at_s) == (record.instance, record.at_s)
        ]
        if len(whole) < record.parts:
            return
        del self._pieces[record.build]
        data = b"".join(piece.data for piece in whole)
        prior = Prior(record.build, record.service, record.at_s, record.executions, data)
        try:
            prior.state()
        except (ValueError, zlib.error, msgspec.MsgspecError):  # what nobody can read helps nobody
            return
        self._known.pop(record.build, None)
        self._known[record.build] = prior
        while len(self._known) > _BUILDS:
            del self._known[next(iter(self._known))]

    def of(self, build: str, before_s: float) -> Prior | None:
        """What was known of a build before `before_s` of event time: a replay does not know its own end."""
        prior = self._known.get(build)
        return prior if prior is not None and prior.at_s <= before_s else None

    def other_of(self, service: str, build: str, before_s: float) -> Prior | None:
        """The build that other instances of a service ran last, and that is not this one."""
        known = (p for p in self._known.values() if p.service == service and p.build != build)
        return max((p for p in known if p.at_s <= before_s), key=lambda p: p.at_s, default=None)

    def is_due(self, build: str, executions: int, at_s: float) -> bool:
        """Whether an instance that knows so much should tell it."""
        prior = self._known.get(build)
        if prior is None:
            return True
        later_s = at_s - prior.at_s
        grown = later_s >= 0 and executions >= _GROWTH * prior.executions
        return grown or later_s >= _AGAIN_S or later_s < -_ASTRAY_S


def records_of(prior: Prior, gpu_model: str, instance: str, state_version: int) -> list[BaselineRecord]:
    """The messages that tell a prior."""
    pieces = [prior.data[i : i + MAX_DATA_BYTES] for i in range(0, len(prior.data), MAX_DATA_BYTES)]
    return [
        BaselineRecord(
            build=prior.build,
            service=prior.service,
            gpu_model=gpu_model,
            instance=instance,
            at_s=prior.at_s,
            executions=prior.executions,
            state_version=state_version,
            data=piece,
            part=part,
            parts=len(pieces),
        )
        for part, piece in enumerate(pieces)
    ]


def packed(state: State) -> bytes:
    """A state as a prior carries it."""
    return pack(state)
