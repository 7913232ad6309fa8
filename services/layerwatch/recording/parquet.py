"""Reads and writes recordings as Parquet: for pandas and DuckDB too, and exact to the bit (see `layout`)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import final

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from layerwatch.recording.from_rows import from_rows
from layerwatch.recording.layout import (
    DICTIONARY,
    FORMAT,
    FORMAT_KEY,
    MAJOR,
    MANIFESTS_KEY,
    NAME_KEY,
    PHASES_KEY,
    SCHEMA,
)
from layerwatch.recording.recording import Phase, Recording
from layerwatch.recording.to_rows import to_rows
from layerwatch.schemas.codec import Reader, encode_json
from layerwatch.schemas.engines import Manifest
from layerwatch.schemas.errors import ConfigError, InvalidRecord, Unavailable
from layerwatch.schemas.profiles import ProfileBatch

#: Bytes of rows that are collected before a row group is written.
_GROUP_BYTES = 32 << 20
#: Layer times repeat (a GPU timer's ticks): 1.5 times smaller than at zstd's own level 1, measured on tests/data.
_ZSTD_LEVEL = 9

_MANIFESTS = Reader(Manifest, json=True)


@final
class ParquetRecorder:
    """Writes a recording message by message, in bounded memory.

    The file appears under its name when the `with` block ends well, and not at all otherwise. Raises ConfigError where
    it cannot be opened, Unavailable where the disk fails later.
    """

    def __init__(self, path: Path, name: str, *, group_bytes: int = _GROUP_BYTES) -> None:
        self._path = path
        self._part = path.with_name(f".{path.name}.{os.getpid()}.part")
        self._name = name
        self._group_bytes = group_bytes
        self._manifests: dict[str, Manifest] = {}
        self._phases: list[Phase] = []
        self._rows: list[pa.RecordBatch] = []
        self._bytes = 0
        try:
            self._file = self._part.open("wb")
        except OSError as error:
            raise ConfigError(f"cannot write {path}: {error.strerror}; choose another --out") from error
        self._writer = pq.ParquetWriter(
            self._file,
            SCHEMA,
            compression="zstd",
            compression_level=_ZSTD_LEVEL,
            use_dictionary=DICTIONARY,
        )

    def __enter__(self) -> ParquetRecorder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._writing(), ExitStack() as undo:
            undo.callback(self._part.unlink, missing_ok=True)
            undo.callback(self._file.close)
            undo.callback(self._writer.close)  # before its file: its destructor would write to a closed one
            if kind is None:
                self._finish()

    def manifest(self, manifest: Manifest) -> None:
        self._manifests[manifest.engine] = manifest

    def phase(self, phase: Phase) -> None:
        self._phases.append(phase)

    def batch(self, batch: ProfileBatch) -> None:
        rows = to_rows(batch)
        self._rows.append(rows)
        self._bytes += rows.nbytes
        if self._bytes >= self._group_bytes:
            with self._writing():
                self._write_group()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise Unavailable(
                f"cannot write {self._path} ({error}): free space, or choose another disk"
            ) from error

    def _write_group(self) -> None:
        table = pa.Table.from_batches(self._rows, SCHEMA)
        self._writer.write_table(table, row_group_size=max(1, len(table)))
        self._rows, self._bytes = [], 0

    def _finish(self) -> None:
        if self._rows:
            self._write_group()
        manifests = ",".join(encode_json(manifest).decode() for manifest in self._manifests.values())
        self._writer.add_key_value_metadata(
            {
                FORMAT_KEY: f"{FORMAT}/{MAJOR}",
                NAME_KEY: self._name,
                MANIFESTS_KEY: f"[{manifests}]",
                PHASES_KEY: msgspec.json.encode(self._phases).decode(),
            }
        )
        self._writer.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._part.replace(self._path)


def write_parquet(
    recording: Recording, path: Path, progress: Callable[[int], None] = lambda executions: None
) -> None:
    """Write a whole recording; `progress` is told the executions written. Raises ConfigError where it cannot be."""
    executions = 0
    with ParquetRecorder(path, recording.name) as recorder:
        for manifest in recording.manifests:
            recorder.manifest(manifest)
        for phase in recording.phases:
            recorder.phase(phase)
        for batch in recording:
            recorder.batch(batch)
            executions += len(batch.end_to_end_ms) // 4
            progress(executions)


def read_parquet(path: Path) -> Recording:
    """The recording at `path`; raises ConfigError when it is none of ours, or of another major version."""
    try:
        with pq.ParquetFile(path) as file:
            about = {key.decode(): value for key, value in (file.metadata.metadata or {}).items()}
            _check_format(path, about.get(FORMAT_KEY, b"").decode())
            groups = (file.read_row_group(i, SCHEMA.names) for i in range(file.num_row_groups))
            batches = [batch for group in groups for batch in from_rows(group)]
        return Recording(
            about[NAME_KEY].decode(),
            [_MANIFESTS.decode(bytes(raw)) for raw in _items(about[MANIFESTS_KEY])],
            batches,
            msgspec.json.decode(about[PHASES_KEY], type=list[Phase]),
        )
    except (OSError, pa.ArrowException, msgspec.MsgspecError, InvalidRecord, KeyError, ValueError) as error:
        raise ConfigError(f"{path} is not a recording that can be read: {error}") from error


def _items(text: bytes) -> list[msgspec.Raw]:
    return msgspec.json.decode(text, type=list[msgspec.Raw])


def _check_format(path: Path, found: str) -> None:
    name, _, major = found.partition("/")
    if name != FORMAT:
        raise ConfigError(f"{path} is Parquet but not a recording: write one with `layerwatch record`")
    if major.partition(".")[0] != str(MAJOR):
        raise ConfigError(
            f"{path} is a recording of format {found}, and this layerwatch reads {FORMAT}/{MAJOR}: "
            f"read it with a layerwatch of that version"
        )
