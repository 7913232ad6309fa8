"""What is in an engine: its manifest, and what else can be told of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

from layerwatch.engines import plans
from layerwatch.probe.cuda import CudaDriver
from layerwatch.probe.engine_facts import engine_facts
from layerwatch.schemas.build_notes import file_sha256, read_notes
from layerwatch.schemas.engines import Manifest
from layerwatch.schemas.errors import Unavailable
from layerwatch.schemas.inspector import layers_by_profile


class Description(NamedTuple):
    """`engine`, `gpu_model` and `tensorrt` of the manifest are empty where only an inspector's text is known."""

    manifest: Manifest
    verbosity: str  # detailed, layer names only, none
    precision: str  # as it was built; empty where no notes tell


def describe_plan(plan: Path) -> Description:
    """Needs TensorRT and the GPU that the plan is for; raises Unavailable and ConfigError."""
    trt = plans.tensorrt()
    try:
        gpu_model = (
            CudaDriver().device().model
        )  # before TensorRT, which would end the process without a driver
    except OSError as error:
        raise Unavailable(
            f"a plan is read by TensorRT on its GPU, and there is none here ({error}): run this there, or name the JSON "
            "that trtexec --exportLayerInfo writes"
        ) from error
    engine = plans.load(plan, trt)
    notes = read_notes(plan, file_sha256(plan))
    facts = engine_facts(engine, trt, service="", gpu_model=gpu_model, plan=str(plan))
    return Description(facts.manifest, _verbosity(facts.manifest), notes.precision if notes else "")


def describe_text(text: str) -> Description | None:
    """Of an inspector's JSON; None where it is none."""
    try:
        found = json.loads(text, strict=False)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or "Layers" not in found:
        return None
    manifest = Manifest(engine="", profiles=layers_by_profile(text))
    return Description(manifest, _verbosity(manifest), "")


def _verbosity(manifest: Manifest) -> str:
    layers = [layer for profile in manifest.profiles for layer in profile.layers]
    if not layers:
        return "none"
    return "detailed" if any(layer.type for layer in layers) else "layer names only"
