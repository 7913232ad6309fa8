"""layerwatch.models: a fitted model as safetensors (arrays only, nothing that runs when loaded), compacted."""

from __future__ import annotations

import msgspec


class ModelRecord(msgspec.Struct, array_like=True, frozen=True, kw_only=True, tag="layerwatch.models/1"):
    """`build` is an engine build, or "*" for every build; `kind` forest or lstm; `stream` what it reads."""

    build: str
    kind: str
    stream: str
    features: str  # hash of the feature schema it was fitted on; others must not be scored with it
    valid_from_s: float
    tensors: bytes

    @property
    def key(self) -> str:
        return f"{self.build}/{self.kind}/{self.stream}"
