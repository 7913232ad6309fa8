"""layerwatch.features: what an instance looks like while it is healthy, a minute at a time: what models are fitted on."""

from __future__ import annotations

import msgspec


class FeatureRecord(msgspec.Struct, array_like=True, frozen=True, kw_only=True, tag="layerwatch.features/1"):
    """Of one build on one instance, in the order of time; `at_s` is the newest event time (unix s).

    Levels are logarithms of how far an instance is from what is usual for it, by stream. Those of one record follow upon one
    another, and upon those of the instance's record before where `follows`.
    """

    build: str
    service: str
    instance: str
    at_s: float
    follows: bool
    features: str  # hash of the feature schema of `windows`
    columns: int
    windows: bytes  # float32 [n, columns], standardised by the instance
    seconds: dict[str, bytes]  # stream: float32 levels of blocks of about a second
    minutes: dict[str, bytes]  # stream: float32 levels of blocks of about a minute

    @property
    def key(self) -> str:
        return self.build
