"""First stage: one instance's messages to signals for its service. Owns the instance's whole state."""

from __future__ import annotations

import zlib
from collections.abc import Mapping

import msgspec

from layerwatch.detectors.arrays import State, pack, unpack
from layerwatch.detectors.cursor import Cursor
from layerwatch.detectors.feature_log import FeatureLog
from layerwatch.detectors.models import Models
from layerwatch.detectors.priors import Priors, records_of
from layerwatch.detectors.scorer import Scorer
from layerwatch.detectors.served import Served
from layerwatch.schemas.baselines import BaselineRecord
from layerwatch.schemas.engines import Manifest
from layerwatch.schemas.errors import InvalidRecord
from layerwatch.schemas.features import FeatureRecord
from layerwatch.schemas.profiles import ProfileBatch
from layerwatch.schemas.signals import Signal

#: Event time between two writes of the baselines; a crash costs no more of them (s).
_HEAVY_EVERY_S = 10.0
#: Or sooner, once they rest on so much more: young baselines change with every message.
_HEAVY_GROWTH = 1.2

HOT, HEAVY, SLOW = "hot", "heavy", "slow"

#: Event time between two signals that say nothing new (s); at the pace of the present, the processor sends one a second.
_HEARTBEAT_S = 5.0

#: Of what `dump` gives; to be raised with any change to the state of a detector.
_STATE_VERSION = 15

#: A value of a table must stay under Kafka's 1 MiB a message.
_HEAVY_BYTES = 900_000


class InstanceStage:
    """Folds one instance's messages, in order; a repeat gives None and changes nothing."""

    def __init__(
        self, manifests: Mapping[str, Manifest], models: Models, known: Priors | None = None
    ) -> None:
        self._manifests = manifests
        self._priors = known
        self._cursor = Cursor()
        self._scorer = Scorer(manifests, models, known)
        self._served = Served()
        self._clock_s = 0.0
        self._heavy_s = -1.0
        self._heavy_learned = 0
        self._slow_written: tuple[str | None, int] = None, 0
        self._told: Signal | None = None
        self._log = FeatureLog()
        self.features: list[FeatureRecord] = []  # that the latest message has filled

    def take_up(self, models: Models) -> None:
        """Score with other models from now on."""
        self._scorer.models = models

    def update(self, batch: ProfileBatch) -> Signal | None:
        """The signal of a message; None for a repeat, which changes nothing.

        Raises MissingManifest or InvalidRecord; nothing has changed then.
        """
        cursor = Cursor(self._cursor.boot_ms, self._cursor.sequence)
        if not cursor.advance(batch.boot_ms, batch.sequence):
            return None
        rebooted = self._cursor.boot_ms not in (-1, batch.boot_ms)
        scorer = self._rebooted(batch) if rebooted else self._scorer
        evidence = scorer.update(batch)
        self._scorer, self._cursor, self._clock_s = scorer, cursor, evidence.clock_s
        if rebooted:
            self._served = Served()
        self._served.update(batch)
        self.features = self._log.add(batch, scorer, evidence)
        return Signal(
            service=batch.service,
            instance=batch.instance,
            boot_ms=batch.boot_ms,
            sequence=batch.sequence,
            engine=batch.engine,
            time_s=evidence.clock_s,
            host=batch.host,
            gpu=batch.gpu,
            state=batch.state,
            tier=batch.tier,
            rate=batch.rate,
            executions=evidence.executions,
            end_to_end_p50_ms=round(evidence.end_to_end_p50_ms, 4),
            warming_up=evidence.warming_up,
            episodes=evidence.episodes,
            slow_path=evidence.slow_path,
            executed=self._served.executed,
            busy_s=self._served.busy_s,
            busy_s2=self._served.busy_s2,
            suspected=evidence.suspected,
            settled=evidence.settled,
        )

    def is_news(self, signal: Signal) -> bool:
        """Whether the service must hear of this signal: it says something new, or the last one told is seconds old."""
        told = self._told
        news = (
            told is None
            or bool(signal.episodes or told.episodes)
            or _standing(signal) != _standing(told)
            or not 0 <= signal.time_s - told.time_s < _HEARTBEAT_S
        )
        if news:
            self._told = signal
        return news

    def told_priors(self, batch: ProfileBatch) -> list[BaselineRecord]:
        """What others should know of the build of a message that was just folded in; mostly nothing."""
        known, learned = self._priors, self._scorer.learned
        if known is None or not learned or not known.is_due(batch.engine, learned, self._clock_s):
            return []
        prior = self._scorer.prior(batch.service, self._clock_s)
        if prior is None:
            return []
        gpu_model = self._manifests[batch.engine].gpu_model
        return records_of(prior, gpu_model, batch.instance, _STATE_VERSION)

    def _rebooted(self, batch: ProfileBatch) -> Scorer:
        """A new process on the same build keeps what was learnt of it, and starts its windows anew."""
        hot, heavy, slow = self._scorer.hot(), self._scorer.heavy(), self._scorer.slow()
        scorer = Scorer.restore(
            batch.instance, self._manifests, self._scorer.models, hot, heavy, slow, self._priors
        )
        scorer.reboot()
        return scorer

    def dump(self, *, all: bool = False) -> dict[str, bytes]:
        """The parts of the state that are due: always the hot one, the baselines while they grow or every 10 s, and the slow
        path's once it has judged another block."""
        head = {
            "version": _STATE_VERSION,
            "cursor": [self._cursor.boot_ms, self._cursor.sequence],
            "clock_s": self._clock_s,
            "scorer": self._scorer.hot(),
            "served": msgspec.to_builtins(self._served),
        }
        parts = {HOT: pack(head)}
        learned = self._scorer.learned
        grown = learned >= _HEAVY_GROWTH * self._heavy_learned
        if all or grown or not 0 <= self._clock_s - self._heavy_s < _HEAVY_EVERY_S:
            parts[HEAVY] = _within_limit(self._scorer.heavy())
            self._heavy_s, self._heavy_learned = self._clock_s, learned
        if all or self._scorer.slow_blocks != self._slow_written:
            parts[SLOW] = _within_limit(self._scorer.slow())
            self._slow_written = self._scorer.slow_blocks
        return parts

    @classmethod
    def restore(
        cls,
        instance: str,
        parts: Mapping[str, bytes],
        manifests: Mapping[str, Manifest],
        models: Models,
        known: Priors | None = None,
    ) -> InstanceStage:
        """From what `dump` gave.

        Raises MissingManifest when a build's manifest is not there (yet), InvalidRecord (state_version) for a state that
        another version of layerwatch has written.
        """
        self = cls(manifests, models, known)
        try:
            head = unpack(parts[HOT])
        except (ValueError, zlib.error, msgspec.MsgspecError) as error:
            raise InvalidRecord("state_version", f"a state of {instance} cannot be read: {error}") from error
        if head.get("version") != _STATE_VERSION:
            raise InvalidRecord("state_version", f"{head.get('version')} where {_STATE_VERSION} is read")
        heavy = unpack(parts[HEAVY]) if HEAVY in parts else None
        slow = unpack(parts[SLOW]) if SLOW in parts else None
        self._cursor = Cursor(*head["cursor"])
        self._served = msgspec.convert(head.get("served", {}), Served)
        self._clock_s = self._heavy_s = head["clock_s"]
        self._scorer = Scorer.restore(instance, manifests, models, head["scorer"], heavy, slow, known)
        self._heavy_learned, self._slow_written = self._scorer.learned, self._scorer.slow_blocks
        return self


def no_priors() -> Priors:
    """Priors that this version of the state can read: none yet."""
    return Priors(_STATE_VERSION)


def _standing(signal: Signal) -> tuple[object, ...]:
    return (
        signal.boot_ms,
        signal.engine,
        signal.state,
        signal.warming_up,
        signal.slow_path,
        tuple(signal.suspected),
        signal.settled,
    )


def _within_limit(builds: State) -> bytes:
    """Baselines of as many builds as fit, the present one (the last) first; none of an engine too large to keep."""
    for oldest in range(len(builds) + 1):
        data = pack(dict(list(builds.items())[oldest:]))
        if len(data) <= _HEAVY_BYTES:
            return data
    raise AssertionError("an empty state fits")
