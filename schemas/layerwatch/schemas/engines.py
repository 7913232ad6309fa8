"""layerwatch.engines: what a build of an engine consists of. Published by each runtime as far as it knows, compacted."""

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


def merged(known: Manifest | None, new: Manifest) -> Manifest:
    """Two manifests of one build as one: runtimes may each have seen other optimization profiles. What is new wins."""
    if known is None or known.engine != new.engine:
        return new
    profiles = {p.profile: p for p in (*known.profiles, *new.profiles)}
    return msgspec.structs.replace(
        new, profiles=[profiles[number] for number in sorted(profiles)], ranges=new.ranges or known.ranges
    )


def manifest_key(manifest: Manifest) -> str:
    """Its key on the topic: of a build's manifests, compaction keeps one for each set of profiles that they describe."""
    return f"{manifest.engine}/{'+'.join(str(p.profile) for p in manifest.profiles)}"
