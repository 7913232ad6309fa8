"""What `layerwatch engine build` leaves beside a plan, since the plan itself does not tell: `PLAN.notes.json`."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec

from layerwatch.schemas.codec import Reader
from layerwatch.schemas.engines import TensorRange
from layerwatch.schemas.errors import InvalidRecord

SUFFIX = ".notes.json"
_CHUNK_BYTES = 1 << 20


class ProfileShapes(msgspec.Struct, frozen=True):
    """Shapes of one input in one optimization profile."""

    input: str
    least: list[int]
    usual: list[int]
    most: list[int]


class BuildNotes(msgspec.Struct, frozen=True, kw_only=True, tag="layerwatch.build/1", tag_field="schema"):
    plan_sha256: str  # of the plan file: notes of another one are not believed
    model: str  # the ONNX file's name
    model_sha256: str
    tensorrt: str
    precision: str  # fp32, fp16, int8, or typed: as the model says
    profiles: list[list[ProfileShapes]] = []
    ranges: list[TensorRange] = []  # calibrated


_READER = Reader(BuildNotes, json=True)


def notes_path(plan: Path) -> Path:
    return plan.with_name(plan.name + SUFFIX)


def file_sha256(path: Path) -> str:
    """Of a file's bytes, in hexadecimal; raises OSError."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            found.update(chunk)
    return found.hexdigest()


def read_notes(plan: Path, plan_sha256: str) -> BuildNotes | None:
    """The notes beside a plan; None where there are none that can be read, or they are of another plan."""
    try:
        notes = _READER.decode(notes_path(plan).read_bytes())
    except (OSError, InvalidRecord):
        return None
    return notes if notes.plan_sha256 == plan_sha256 else None
