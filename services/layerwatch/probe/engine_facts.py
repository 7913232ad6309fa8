"""What the probe has to know of an engine, asked once: its build, its inputs, its layers."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

from layerwatch.probe.interfaces import Engine
from layerwatch.schemas.build_notes import file_sha256, read_notes
from layerwatch.schemas.engines import Layer, Manifest, ProfileLayers
from layerwatch.schemas.groups import group_of
from layerwatch.schemas.inspector import layers_by_profile
from layerwatch.schemas.ring import MAX_DIMENSIONS
from layerwatch.schemas.runtimes import Input


class EngineFacts(NamedTuple):
    manifest: Manifest
    inputs: list[Input]  # whose dimensions a record has
    profiles: int
    tensors: tuple[str, ...]  # all inputs and outputs
    input_names: tuple[str, ...]  # all inputs
    shares_profiles: bool  # surely: several contexts may have the same one


def engine_facts(engine: Engine, trt: Any, *, service: str, gpu_model: str, plan: str | None) -> EngineFacts:
    """Ask the engine. Where a plan file is named, reads it whole for its hash, and the notes beside it; raises OSError."""
    tensors = tuple(engine.get_tensor_name(i) for i in range(engine.num_io_tensors))
    inputs = tuple(name for name in tensors if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT)
    profiles = max(1, int(engine.num_optimization_profiles))
    text = str(engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON))
    version = str(trt.__version__)
    plan_sha256 = file_sha256(Path(plan)) if plan is not None else None
    notes = read_notes(Path(plan), plan_sha256) if plan is not None and plan_sha256 is not None else None
    manifest = Manifest(
        engine=build_id(plan_sha256, text, version, gpu_model),
        service=service,
        gpu_model=gpu_model,
        tensorrt=version,
        profiles=layers_by_profile(text, profiles),
        ranges=notes.ranges if notes is not None else [],
    )
    # `layerwatch engine build` always builds so, and nobody else leaves such notes.
    shares_profiles = notes is not None or _shares_profiles(engine, version, tensors)
    return EngineFacts(manifest, _recorded(engine, inputs), profiles, tensors, inputs, shares_profiles)


def build_id(plan_sha256: str | None, inspected: str, tensorrt: str, gpu_model: str) -> str:
    """Of the plan file where it is known, else of what the inspector says; and of the GPU's model, never of one GPU."""
    whole = plan_sha256
    if whole is None:
        text = f"{tensorrt}\0{inspected}".encode(errors="surrogateescape")
        whole = hashlib.sha256(text).hexdigest()
    return "sha256:" + hashlib.sha256(f"{whole}\0{gpu_model}".encode()).hexdigest()


def with_names(manifest: Manifest, profile: int, names: list[str]) -> Manifest:
    """The manifest with the layers of a profile as the profiler has just named them, in call order."""
    known = {p.profile: p for p in manifest.profiles}
    former = {layer.name: layer for p in manifest.profiles for layer in p.layers}
    layers = [former.get(name, Layer(name, group_of(name))) for name in names]
    known[profile] = ProfileLayers(profile, layers)
    return Manifest(
        engine=manifest.engine,
        service=manifest.service,
        gpu_model=manifest.gpu_model,
        tensorrt=manifest.tensorrt,
        profiles=[known[number] for number in sorted(known)],
        ranges=manifest.ranges,
    )


def _shares_profiles(engine: Engine, tensorrt: str, tensors: tuple[str, ...]) -> bool:
    """Since TensorRT 10 all engines do; before, those in which no shape changes."""
    major = tensorrt.partition(".")[0]
    return (major.isdigit() and int(major) >= 10) or all(
        d >= 0 for name in tensors for d in engine.get_tensor_shape(name)
    )


def _recorded(engine: Engine, inputs: tuple[str, ...]) -> list[Input]:
    """The inputs of changing shape, or all where none changes, as far as their dimensions fit into a record."""
    shapes = {name: tuple(engine.get_tensor_shape(name)) for name in inputs}
    moving = {name: shape for name, shape in shapes.items() if any(d < 0 for d in shape)}
    recorded: list[Input] = []
    left = MAX_DIMENSIONS
    for name, shape in (moving or shapes).items():
        if 0 < len(shape) <= left:
            recorded.append(Input(name, len(shape)))
            left -= len(shape)
    return recorded
