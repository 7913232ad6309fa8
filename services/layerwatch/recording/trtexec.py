"""What trtexec exports, as a recording: `--exportTimes`, `--exportProfile`, `--exportLayerInfo`, of TensorRT 8.6 to 11.

- Times: whole inferences, and thereby the recording's executions; the last one ended when the file was written.
- Profile: the layers summed over all inferences, never those of one. It becomes one sampled execution: each layer's median, or
  its mean in files that have none; beside times, on the execution whose latency is the median.
- Layer info: what the engine inspector knows of the layers; their types and precisions for the manifest.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from layerwatch.recording.cut import LayerTable, Run, cut
from layerwatch.recording.recording import Recording
from layerwatch.schemas.engines import Layer, Manifest, ProfileLayers
from layerwatch.schemas.errors import ConfigError
from layerwatch.schemas.groups import group_of
from layerwatch.schemas.inspector import layers_by_profile
from layerwatch.schemas.profiles import COUNTER_COLUMNS

#: trtexec does not escape names: one with a quote in it makes its file no JSON, but each entry is on a line of its own.
_ENTRY = re.compile(r'^[\s,\[]*\{\s*"name"\s*:\s*"(?P<name>.*)"\s*,\s*"timeMs"\s*:(?P<rest>.*)\}[\s\]]*$')
_NUMBER = re.compile(r'"(averageMs|medianMs)"\s*:\s*([-+.\deE]+)')
_WORDS = "a file of trtexec --exportTimes, --exportProfile or --exportLayerInfo"


class _Inference(NamedTuple):
    end_ms: float  # since trtexec's start
    latency_ms: float
    enqueue_ms: float


class _LayerTime(NamedTuple):
    name: str
    ms: float


class _Found(NamedTuple):
    times: list[_Inference]
    layers: list[_LayerTime]
    info: str  # an inspector's JSON
    written_s: float  # unix s, of the times where there are any


def read_trtexec(paths: Sequence[Path], service: str) -> Recording:
    """The recording of one engine, from one file of each kind at most; raises ConfigError."""
    found = _read(paths)
    if not found.times and not found.layers:
        raise ConfigError(
            "layer info alone holds no timing: add the file of --exportTimes or --exportProfile, or look at it with "
            "`layerwatch engine inspect`"
        )
    times = found.times or [_Inference(0.0, sum(layer.ms for layer in found.layers), math.nan)]
    times.sort()
    latency_ms = np.array([time.latency_ms for time in times], np.float32)
    ends_s = np.array([time.end_ms for time in times]) / 1e3
    names, info = [layer.name for layer in found.layers], layers_by_profile(found.info) if found.info else []
    manifest = _manifest(service, names, info)
    middle = int(np.argsort(latency_ms)[(len(times) - 1) // 2])
    table = LayerTable(
        0, 0, np.array([middle]), np.array([[layer.ms for layer in found.layers]], dtype=np.float32)
    )
    host_ms = np.array([time.enqueue_ms for time in times], np.float32)
    count = len(times)
    run = Run(
        service=service,
        instance=f"{service}-0",
        engines=[manifest.engine],
        times_s=found.written_s + ends_s - ends_s[-1],
        engine=np.zeros(count, np.int64),
        profile=np.zeros(count, np.int64),
        shape=np.ones((count, 2), np.int64),
        end_to_end_ms=latency_ms,
        flags=np.zeros(count, np.uint8),
        layers=[table] if found.layers else [],
        counters=np.empty((0, len(COUNTER_COLUMNS))),
        boot_ms=int((found.written_s - float(ends_s[-1])) * 1e3),
        host_ms=host_ms if np.isfinite(host_ms).all() else None,
    )
    batches = [msgspec.structs.replace(batch, tier="baseline", rate=1 / count) for batch in cut(run)]
    return Recording(service, [manifest], batches)


def _read(paths: Sequence[Path]) -> _Found:
    times: list[_Inference] = []
    layers: list[_LayerTime] = []
    info, written_s = "", 0.0
    for path in paths:
        try:
            text = path.read_bytes().decode("utf-8", "replace")
            changed_s = path.stat().st_mtime
        except OSError as error:
            raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
        new = _entries(path, text)
        kind = _kind(new)
        if kind is None:
            raise ConfigError(f"{path} is not {_WORDS}")
        if (kind == "times" and times) or (kind == "profile" and layers) or (kind == "info" and info):
            raise ConfigError(f"{path} is a second file of its kind: one recording is of one run of trtexec")
        if kind == "times":
            times, written_s = [_inference(path, entry) for entry in new], changed_s
        elif kind == "profile":
            layers = [_layer_time(path, entry) for entry in new if "name" in entry]
        else:
            info = text
        written_s = written_s or changed_s
    return _Found(times, layers, info, written_s)


def _entries(path: Path, text: str) -> Any:
    try:
        return json.loads(text, strict=False)
    except RecursionError:
        raise ConfigError(f"{path} is not {_WORDS}") from None
    except ValueError as error:
        found = [match for line in text.split("\n") if (match := _ENTRY.match(line))]
        if not found:
            raise ConfigError(f"{path} is not {_WORDS}: {error}") from error
        return [{"name": match["name"], **dict(_NUMBER.findall(match["rest"]))} for match in found]


def _kind(found: Any) -> str | None:
    if isinstance(found, dict) and isinstance(found.get("Layers"), list):
        return "info"
    if not isinstance(found, list) or not found or not all(isinstance(entry, dict) for entry in found):
        return None
    if all("latencyMs" in entry or "computeMs" in entry for entry in found):
        return "times"
    return "profile" if any("name" in entry for entry in found) else None


def _inference(path: Path, entry: Mapping[str, Any]) -> _Inference:
    latency_ms = _number(path, entry, "latencyMs", "computeMs")
    return _Inference(
        _number(path, entry, "endD2hMs", "endComputeMs"),
        latency_ms,
        _number(path, entry, "endEnqMs") - _number(path, entry, "startEnqMs")
        if "endEnqMs" in entry and "startEnqMs" in entry
        else math.nan,
    )


def _layer_time(path: Path, entry: Mapping[str, Any]) -> _LayerTime:
    return _LayerTime(str(entry["name"]), _number(path, entry, "medianMs", "averageMs"))


def _number(path: Path, entry: Mapping[str, Any], *keys: str) -> float:
    """The first of these that there is."""
    for key in keys:
        if key in entry:
            try:
                value = float(entry[key])
            except (TypeError, ValueError):
                value = math.nan
            if math.isfinite(value) and value >= 0:
                return value
            raise ConfigError(f"{path}: {key} is {entry[key]!r} where a time in ms must be")
    raise ConfigError(f"{path}: an entry without {' or '.join(keys)}: export it again with trtexec")


def _manifest(service: str, names: list[str], info: list[ProfileLayers]) -> Manifest:
    """No plan is known, so the build's id is a hash of what its layers are called: the same for each run of the engine."""
    known = {layer.name: layer for profile in info for layer in profile.layers}
    layers = [known.get(name, Layer(name, group_of(name))) for name in names]
    profiles = [ProfileLayers(0, layers)] if layers else info[:1]
    text = json.dumps([[layer.name for layer in profile.layers] for profile in profiles])
    return Manifest(
        engine="sha256:" + hashlib.sha256(text.encode()).hexdigest(), service=service, profiles=profiles
    )
