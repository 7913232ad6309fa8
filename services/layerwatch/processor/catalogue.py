"""Manifests, models and priors of builds: compacted topics that every processor reads whole, in a thread of its own."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from typing import Any

from kafka import TopicPartition
from kafka.errors import KafkaError

from layerwatch.detectors.instance_stage import no_priors
from layerwatch.detectors.models import Models, updated, withdrawn
from layerwatch.hosting import kafka
from layerwatch.hosting.settings import Settings
from layerwatch.schemas import topics
from layerwatch.schemas.baselines import BaselineRecord
from layerwatch.schemas.codec import Reader
from layerwatch.schemas.engines import Manifest, merged
from layerwatch.schemas.errors import InvalidRecord, MissingManifest, Unavailable
from layerwatch.schemas.models import ModelRecord

log = logging.getLogger(__name__)

_RETRY_S = 1.0
_POLL_S = 0.05


class Catalogue:
    """`manifests` by engine build, `models` as published since, `priors` of builds; all grow while in use."""

    def __init__(self, settings: Settings, models: Models, wait_s: float) -> None:
        self.manifests: dict[str, Manifest] = {}
        self.models = models
        self.priors = no_priors()
        self._settings = settings
        self._wait_s = wait_s
        self._given_up: set[str] = set()
        self._read_manifest = Reader(Manifest)
        self._read_model = Reader(ModelRecord)
        self._read_baseline = Reader(BaselineRecord)
        self._loaded = threading.Event()
        self._thread = threading.Thread(target=self._run, name="catalogue", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wait_loaded(self) -> None:
        """Until all that was published before the start is known."""
        self._loaded.wait()

    async def manifest(self, engine: str) -> Manifest:
        """The manifest of a build. Timings may overtake it, so it is waited for, once a build; MissingManifest then."""
        deadline_s = time.monotonic() + self._wait_s
        while engine not in self.manifests:
            if engine in self._given_up or time.monotonic() >= deadline_s:
                self._given_up.add(engine)
                raise MissingManifest(engine)
            await asyncio.sleep(_POLL_S)
        return self.manifests[engine]

    def _run(self) -> None:
        while True:
            try:
                self._follow()
            except (KafkaError, Unavailable) as error:
                log.warning("catalogue: %s; trying again", error)
                time.sleep(_RETRY_S)

    def _follow(self) -> None:
        consumer = kafka.consumer(self._settings)
        partitions = [TopicPartition(topic, 0) for topic in (topics.ENGINES, topics.MODELS, topics.BASELINES)]
        consumer.assign(partitions)
        consumer.seek_to_beginning(*partitions)
        ends = consumer.end_offsets(partitions)
        while True:
            for records in consumer.poll(timeout_ms=200).values():
                for record in records:
                    self._take(record)
            if not self._loaded.is_set() and all(
                (consumer.position(tp) or 0) >= end for tp, end in ends.items()
            ):
                self._loaded.set()

    def _take(self, record: Any) -> None:
        try:
            if record.topic == topics.ENGINES:
                manifest = self._read_manifest.decode(record.value or b"")
                self.manifests[manifest.engine] = merged(self.manifests.get(manifest.engine), manifest)
                self._given_up.discard(manifest.engine)
            elif record.topic == topics.BASELINES:
                self.priors.take(self._read_baseline.decode(record.value or b""))
            elif not record.value:
                key = (record.key or b"").decode(errors="replace")
                self.models = withdrawn(self.models, key)
                log.info("model %s withdrawn", key)
            else:
                model = self._read_model.decode(record.value or b"")
                self.models = updated(self.models, model)
                log.info("model %s taken up", model.key)
        except InvalidRecord as error:
            log.warning("refused %s/%d/%d: %s", record.topic, record.partition, record.offset, error)
