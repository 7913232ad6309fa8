"""layerwatch.engines: what a build of an engine consists of. Published once a build, compacted."""

from __future__ import annotations

import msgspec


class Layer(msgspec.Struct, array_like=True, frozen=True):
    name: str  # as IProfiler reports it; may repeat, and run to 350 characters when fused
    group: str = ""  # block or stage it belongs to
    type: str = ""
    precision: str = ""


class ProfileLayers(msgspec.Struct, array_like=True, frozen=True):
    """The layers that run with one optimization profile, in call order."""

    profile: int
    layers: list[Layer]


class TensorRange(msgspec.Struct, array_like=True, frozen=True):
    name: str
    amax: float = 0.0  # calibrated range; 0 where it is not known


class Manifest(msgspec.Struct, array_like=True, frozen=True, kw_only=True, tag="layerwatch.engines/1"):
    engine: str  # build id, sha256:...
    service: str = ""
    gpu_model: str = ""
    tensorrt: str = ""
    profiles: list[ProfileLayers] = []
    ranges: list[TensorRange] = []
