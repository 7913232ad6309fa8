"""First operator: profiles to signals, by instance."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter

from layerwatch.detectors.instance_stage import HEAVY, HOT, SLOW, InstanceStage
from layerwatch.hosting.operator import Outgoing
from layerwatch.processor.catalogue import Catalogue
from layerwatch.schemas import topics
from layerwatch.schemas.codec import Reader, encode
from layerwatch.schemas.errors import InvalidRecord, MissingManifest
from layerwatch.schemas.profiles import ProfileBatch

log = logging.getLogger(__name__)

#: Of the present, between two signals of an instance at most.
_HEARTBEAT_S = 1.0

#: Larger messages are refused: 64 executions of 4 000 layers fit.
_MAX_BYTES = 2_000_000


class Instances:
    """Operator of `InstanceStage`."""

    name = "instances"
    source = topics.PROFILES
    parts = (HOT, HEAVY, SLOW)

    def __init__(self, catalogue: Catalogue, registry: CollectorRegistry) -> None:
        self._catalogue = catalogue
        self._reader = Reader(ProfileBatch)
        self._told_s: dict[str, float] = {}  # when each instance's last signal was sent (monotonic)
        self._executions = Counter("layerwatch_executions", "Executions scored", registry=registry)
        self._repeated = Counter(
            "layerwatch_repeated", "Messages that had been folded in before", registry=registry
        )

    async def prepare(self, value: bytes) -> ProfileBatch:
        if len(value) > _MAX_BYTES:
            raise InvalidRecord(
                "too_large", f"{len(value)} bytes; {_MAX_BYTES} are read: send more, smaller messages"
            )
        batch = self._reader.decode(value)
        await self._catalogue.manifest(batch.engine)
        return batch

    def key(self, record: ProfileBatch) -> bytes:
        return record.instance.encode()

    def keys_wanted(self) -> Iterable[bytes]:
        return ()

    def restore(self, key: bytes, parts: Mapping[str, bytes]) -> InstanceStage:
        manifests, models, priors = self._catalogue.manifests, self._catalogue.models, self._catalogue.priors
        if HOT not in parts:
            return InstanceStage(manifests, models, priors)
        try:
            return InstanceStage.restore(key.decode(), parts, manifests, models, priors)
        except MissingManifest:
            raise
        except InvalidRecord as error:  # after an upgrade: what was learnt is lost, what comes is not
            log.warning("%s learns anew: %s", key.decode(), error)
            return InstanceStage(manifests, models, priors)

    def fold(self, state: InstanceStage, record: ProfileBatch) -> list[Outgoing]:
        state.take_up(self._catalogue.models)
        signal = state.update(record)
        if signal is None:
            self._repeated.inc()
            return []
        self._executions.inc(signal.executions)
        out = self._priors_told(state, record)
        out += [Outgoing(topics.FEATURES, told.key.encode(), encode(told)) for told in state.features]
        if not (state.is_news(signal) or self._is_due(signal.instance)):
            return out
        self._told_s[signal.instance] = time.monotonic()
        return [*out, Outgoing(topics.SIGNALS, signal.service.encode(), encode(signal))]

    def _priors_told(self, state: InstanceStage, record: ProfileBatch) -> list[Outgoing]:
        """What the instance tells all others of its build; known here at once, so that no sibling tells it again."""
        told = state.told_priors(record)
        for prior in told:
            self._catalogue.priors.take(prior)
        return [Outgoing(topics.BASELINES, prior.key.encode(), encode(prior)) for prior in told]

    def _is_due(self, instance: str) -> bool:
        """Whether the service would take the instance for silent if it heard nothing: the clock of the present counts."""
        return time.monotonic() - self._told_s.get(instance, -math.inf) >= _HEARTBEAT_S

    def dump(self, state: InstanceStage, *, whole: bool) -> dict[str, bytes]:
        return state.dump(all=whole)

    def tick(self, state: InstanceStage, now_s: float) -> list[Outgoing]:
        return []
