"""What IEngineInspector prints of an engine, in the dialects of TensorRT 8.6, 10 and 11, as layers by profile.

With ProfilingVerbosity DETAILED a layer is an object, with LAYER_NAMES_ONLY a string, and with NONE there are none. The
text may hold raw control characters inside strings. TensorRT 8 and 9 print the layers of each profile and mark those of
the later ones by a suffix; TensorRT 10 and 11 print them once for all profiles.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from layerwatch.schemas.engines import Layer, ProfileLayers
from layerwatch.schemas.groups import group_of

_PROFILE = re.compile(r" \[profile (\d+)\]$")
#: The nodes of the ONNX model that a layer was made of, joined by \x1e (8.6) or \x1f (10 and later).
_ONNX_NODE = re.compile(r"\[ONNX Layer: ([^\]]+)\]")

#: Words of a tensor's format or data type, of weights, and of names of tactics, and the precision that they mean; first match wins.
_PRECISIONS = (
    (re.compile(r"\bFP4\b|FP4E2M1|\bE2M1\b", re.IGNORECASE), "fp4"),
    (re.compile(r"\bFP8\b|FP8E4M3|\bE4M3|_e4m3", re.IGNORECASE), "fp8"),
    (re.compile(r"\bInt4\b", re.IGNORECASE), "int4"),
    (re.compile(r"\bInt8\b|_i8(?:i8|f32|i32)|int8|imma", re.IGNORECASE), "int8"),
    (re.compile(r"\bBF16\b|\bBFloat16\b|_bf16", re.IGNORECASE), "bf16"),
    (re.compile(r"\bFP16\b|\bHalf\b|_f16f16|_h\d*884|hmma|fp16", re.IGNORECASE), "fp16"),
    (re.compile(r"\bFP32\b|\bFloat\b|_f32f32|_tf32|sgemm|fp32", re.IGNORECASE), "fp32"),
    (re.compile(r"\bInt64\b", re.IGNORECASE), "int64"),
    (re.compile(r"\bInt32\b", re.IGNORECASE), "int32"),
    (re.compile(r"\bBool\b", re.IGNORECASE), "bool"),
)
_UNKNOWN = "N/A"


def layers_by_profile(text: str, profiles: int = 1) -> list[ProfileLayers]:
    """The layers of each optimization profile in call order; [] where the engine was built without names.

    `profiles` is the engine's number of them. Whatever is no inspector's JSON gives [] too: the profiler's names will do.
    """
    try:
        found = json.loads(text, strict=False)
    except (ValueError, RecursionError):
        return []
    entries = found.get("Layers") if isinstance(found, dict) else None
    if not isinstance(entries, list):
        return []
    by_profile: dict[int, list[Layer]] = {}
    for entry in entries:
        layer = _layer(entry)
        if layer is not None:
            marked = _PROFILE.search(layer.name)
            by_profile.setdefault(int(marked[1]) if marked else 0, []).append(layer)
    if set(by_profile) == {0}:
        return [ProfileLayers(profile, by_profile[0]) for profile in range(max(1, profiles))]
    return [ProfileLayers(profile, by_profile[profile]) for profile in sorted(by_profile)]


def _layer(entry: Any) -> Layer | None:
    if isinstance(entry, str) and entry:
        return Layer(entry, group_of(entry))
    if not isinstance(entry, dict) or not isinstance(entry.get("Name"), str) or not entry["Name"]:
        return None
    name = entry["Name"]
    return Layer(name, group_of(name) or _onnx_group(entry), _text(entry, "LayerType"), _precision(entry))


def _onnx_group(entry: Mapping[str, Any]) -> str:
    """The block of the first node that has one: a fused layer's own name often tells nothing."""
    groups = map(group_of, _ONNX_NODE.findall(_text(entry, "Metadata")))
    return next(filter(None, groups), "")


def _precision(entry: Mapping[str, Any]) -> str:
    """In which the layer computes, from its weights or its tactic's name; else that of its first output."""
    for key in ("Weights", "weights"):
        weights = entry.get(key)
        if isinstance(weights, dict) and (precision := _named(_text(weights, "Type"))):
            return precision
    if precision := _named(_text(entry, "TacticName")):
        return precision
    outputs = entry.get("Outputs")
    for output in outputs if isinstance(outputs, list) else []:
        if isinstance(output, dict):
            for key in ("Datatype", "DataType", "Format/Datatype"):
                if precision := _named(_text(output, key)):
                    return precision
    return ""


def _named(text: str) -> str:
    if text.startswith(_UNKNOWN):
        return ""
    return next((precision for pattern, precision in _PRECISIONS if pattern.search(text)), "")


def _text(entry: Mapping[str, Any], key: str) -> str:
    value = entry.get(key)
    return value if isinstance(value, str) else ""
