"""layerwatch.baselines: what a build costs by shape and layer, the prior that new instances start from. Compacted."""

from __future__ import annotations

import msgspec

#: Bytes of `data` in one message: a broker takes a million, and the rest of the record is small.
MAX_DATA_BYTES = 900_000


class BaselineRecord(
    msgspec.Struct, array_like=True, frozen=True, kw_only=True, tag="layerwatch.baselines/1"
):
    """One of `parts` pieces of what an instance has learnt of `build`, at `at_s` (event time, unix s).

    `data`: the pieces of all parts in a row are a state of layerwatch's detectors, of version `state_version`; another
    version cannot read it and learns anew. Pieces belong together where `instance` and `at_s` are the same.
    """

    build: str
    service: str
    gpu_model: str
    instance: str
    at_s: float
    executions: int
    state_version: int
    data: bytes
    part: int = 0
    parts: int = 1

    @property
    def key(self) -> str:
        return f"{self.build}/{self.part}"
