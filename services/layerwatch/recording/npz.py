"""Reads the `.npz` recordings of real TensorRT engines (numpy archives; five layouts, told apart by their keys).

`rec` and `layers`, `alt_layers`: a main engine and another one. `rec` with 7 columns: optimization profiles of one
engine. `rec` with `layers0`, `layers1`, ...: builds of one engine, in turn. `rows`: an INT8 engine beside its reference.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layerwatch.recording.cut import LayerTable, PrecisionTable, Run, cut
from layerwatch.recording.recording import Phase, Recording
from layerwatch.schemas.engines import Layer, Manifest, ProfileLayers, TensorRange
from layerwatch.schemas.errors import ConfigError
from layerwatch.schemas.groups import group_of
from layerwatch.schemas.profiles import CHANGED_SHAPE, COUNTER_COLUMNS, SWITCHED_PROFILE

#: Phases in which nothing was injected that an operator should hear of.
_HEALTHY = {
    "normal",
    "shape_shift_benign",
    "rebuild_benign",
    "short_only",
    "context_per_profile",
    "regressed_engine",  # was meant to be slower, and is not: another build, within the drift of healthy phases
}

_GPU = "NVIDIA H200"

Arrays = Any  # numpy's lazily read archive
Who = tuple[str, str]  # service, instance


def read_npz(path: Path, *, service: str | None = None, instance: str | None = None) -> Recording:
    """The recording at `path`; raises ConfigError when it is not one of the five layouts."""
    who = (service or path.stem, instance or f"{service or path.stem}-0")
    try:
        with np.load(path, allow_pickle=False) as archive:
            return _read(path, archive, who)
    except (
        OSError,
        EOFError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        zipfile.BadZipFile,
    ) as error:
        raise ConfigError(f"{path} is not a .npz recording: {error}") from error


def _read(path: Path, archive: Arrays, who: Who) -> Recording:
    stem, keys = path.stem, set(archive.files)
    if "rows" in keys:
        return _int8(stem, archive, who)
    if "rec" not in keys or not keys & {"layers", "layers0"}:
        raise ConfigError(
            f"{path} holds {sorted(keys)}: a recording has `rec` and `layers` (or `layers0`), or `rows`"
        )
    if "layers" in keys:
        return _engines(stem, archive, who, [("layers", "names"), ("alt_layers", "alt_names")])
    count = sum(1 for key in keys if key.startswith("layers"))
    tables = [(f"layers{i}", f"names{i}") for i in range(count)]
    return (_profiles if archive["rec"].shape[1] >= 7 else _engines)(stem, archive, who, tables)


def _engines(stem: str, archive: Arrays, who: Who, tables: list[tuple[str, str]]) -> Recording:
    """Engines in turn: the last column of `rec` says which."""
    rec = archive["rec"]
    engine = rec[:, 5].astype(np.int64)
    present = [
        (i, *table) for i, table in enumerate(tables) if table[0] in archive.files and archive[table[0]].size
    ]
    manifests = {i: _manifest(stem, i, who[0], {0: _names(archive, names)}) for i, _, names in present}
    layers = [_table(archive, table, i, 0, np.flatnonzero(engine == i)) for i, *table in present]
    run = _run(
        who,
        rec,
        archive,
        engines=[manifests[i].engine if i in manifests else "" for i in range(len(tables))],
        engine=engine,
        layers=layers,
    )
    return Recording(stem, list(manifests.values()), list(cut(run)), _phases(archive, rec))


def _profiles(stem: str, archive: Arrays, who: Who, tables: list[tuple[str, str]]) -> Recording:
    """One engine with several optimization profiles, each with its own layers."""
    rec = archive["rec"]
    profile = rec[:, 5].astype(np.int64)
    manifest = _manifest(stem, 0, who[0], {i: _names(archive, names) for i, (_, names) in enumerate(tables)})
    layers = [_table(archive, table, 0, i, np.flatnonzero(profile == i)) for i, table in enumerate(tables)]
    run = _run(
        who,
        rec,
        archive,
        engines=[manifest.engine],
        layers=layers,
        profile=profile,
        flags=_changed(rec) | (rec[:, 6] > 0).astype(np.uint8) * np.uint8(SWITCHED_PROFILE),
    )
    return Recording(stem, [manifest], list(cut(run)), _phases(archive, rec))


def _int8(stem: str, archive: Arrays, who: Who) -> Recording:
    """An INT8 engine; `rows` holds its comparison with the FP16 one and how often tensors left their range."""
    rows = archive["rows"]
    marked = _names(archive, "marked")
    tensors = rows[:, 6 : 6 + 2 * len(marked)].astype(np.float32)
    # The README of the recordings reads as if the two alternated; the values say fractions first.
    clipped, peak_ratio = tensors[:, : len(marked)], tensors[:, len(marked) :]
    manifest = _manifest(stem, 0, who[0], {0: _names(archive, "names")}, marked)
    precision = PrecisionTable(clipped, peak_ratio, *(rows[:, c].astype(np.float32) for c in (3, 4, 5)))
    rec = np.column_stack(
        [rows[:, 0], np.zeros(len(rows)), np.ones(len(rows)), np.ones(len(rows)), rows[:, 2]]
    )
    run = _run(
        who,
        rec,
        archive,
        engines=[manifest.engine],
        layers=[_table(archive, ("layers", "names"), 0, 0, np.arange(len(rows)))],
        precision=precision,
    )
    edges = [0, *(np.flatnonzero(np.diff(rows[:, 1])) + 1), len(rows)]
    phases = [
        Phase(_scale_name(rows[a, 1]), float(rows[a, 0]), float(rows[b - 1, 0]), bool(rows[a, 1] == 1))
        for a, b in itertools.pairwise(edges)
    ]
    return Recording(stem, [manifest], list(cut(run)), phases)


def _table(
    archive: Arrays, keys: Sequence[str], engine: int, profile: int, rows: NDArray[np.int64]
) -> LayerTable:
    """The layer times and names under two keys; raises ValueError where they do not fit the executions."""
    times_ms, names = (archive[key] for key in keys)
    if times_ms.shape != (len(rows), len(names)):
        raise ValueError(f"{len(rows)} executions, {len(names)} names: `{keys[0]}` is {times_ms.shape}")
    return LayerTable(engine, profile, rows, times_ms)


def _scale_name(scale: float) -> str:
    return {1.0: "normal", -1.0: "one_channel_x6"}.get(scale, f"input_x{scale:g}")


def _run(who: Who, rec: NDArray[np.float64], archive: Arrays, **columns: Any) -> Run:
    """The columns that all layouts share; `columns` are those that this one has besides, or instead."""
    n = len(rec)
    service, instance = who
    shared: dict[str, Any] = {
        "times_s": rec[:, 0],
        "engine": np.zeros(n, np.int64),
        "profile": np.zeros(n, np.int64),
        "shape": rec[:, 2:4].astype(np.int64),
        "end_to_end_ms": rec[:, 4].astype(np.float32),
        "flags": _changed(rec),
        "counters": archive["gpu"] if "gpu" in archive.files else np.empty((0, len(COUNTER_COLUMNS))),
        "boot_ms": int(rec[0, 0] * 1000),
    }
    return Run(service=service, instance=instance, gpu=_GPU, **(shared | columns))


def _changed(rec: NDArray[np.float64]) -> NDArray[np.uint8]:
    """The flag of executions whose shape is another one than that before: one context runs them all."""
    changed = np.ones(len(rec), bool)
    changed[1:] = (rec[1:, 2:4] != rec[:-1, 2:4]).any(axis=1)
    return changed.astype(np.uint8) * np.uint8(CHANGED_SHAPE)


def _names(archive: Arrays, key: str) -> list[str]:
    return [str(name) for name in archive[key]]


def _manifest(
    stem: str, index: int, service: str, profiles: dict[int, list[str]], tensors: list[str] | None = None
) -> Manifest:
    """The plan files of the recordings are not kept, so the build's id is a hash of its layers and its place."""
    text = json.dumps([stem, index, _GPU, profiles])
    return Manifest(
        engine="sha256:" + hashlib.sha256(text.encode()).hexdigest(),
        service=service,
        gpu_model=_GPU,
        tensorrt="8.6.1",
        profiles=[
            ProfileLayers(profile, [Layer(name, group_of(name)) for name in names])
            for profile, names in profiles.items()
        ],
        ranges=[TensorRange(name) for name in tensors or []],
    )


def _phases(archive: Arrays, rec: NDArray[np.float64]) -> list[Phase]:
    """`phases` is a JSON list of [index, name, start, end], or of names whose times are those of their rows."""
    listed = archive["phases"]
    names = json.loads(str(listed)) if listed.ndim == 0 else [str(name) for name in listed]
    if names and isinstance(names[0], list):
        return [Phase(str(p[1]), float(p[2]), float(p[3]), p[1] in _HEALTHY) for p in names]
    times = [rec[rec[:, 1] == i, 0] for i in range(len(names))]
    return [
        Phase(name, float(t[0]), float(t[-1]), name in _HEALTHY)
        for name, t in zip(names, times, strict=True)
        if len(t)
    ]
