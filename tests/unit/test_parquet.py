"""Our Parquet recordings: exact, readable by others, never half a file, refused by version."""

from __future__ import annotations

import gc
import json
import resource
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import consistent_batches, odd_batches

from layerwatch.recording.layout import is_consistent
from layerwatch.recording.npz import read_npz
from layerwatch.recording.parquet import ParquetRecorder, read_parquet, write_parquet
from layerwatch.recording.recording import Phase, Recording
from layerwatch.schemas.codec import encode
from layerwatch.schemas.engines import Layer, Manifest, ProfileLayers, TensorRange
from layerwatch.schemas.errors import ConfigError, Unavailable
from layerwatch.schemas.profiles import ProfileBatch

DATA = Path(__file__).parents[1] / "data"
RECORDINGS = sorted(DATA.glob("*.npz"))

MANIFEST = Manifest(
    engine="sha256:1",
    service="s",
    profiles=[ProfileLayers(0, [Layer('conv "1"', "stem"), Layer("é\n")])],
    ranges=[TensorRange("t", 0.1)],
)


def through_a_file(recording: Recording, group_bytes: int = 1 << 20) -> Recording:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "r.parquet"
        with ParquetRecorder(path, recording.name, group_bytes=group_bytes) as recorder:
            for manifest in recording.manifests:
                recorder.manifest(manifest)
            for phase in recording.phases:
                recorder.phase(phase)
            for batch in recording:
                recorder.batch(batch)
        return read_parquet(path)


def encoded(recording: Recording) -> list[bytes]:
    """Bytes, because NaN differs from itself."""
    return [encode(batch) for batch in recording]


@given(consistent_batches())
def test_rows_can_carry_every_message_whose_columns_agree(batch: ProfileBatch) -> None:
    assert is_consistent(batch)


@settings(max_examples=100, deadline=None)
@given(st.lists(consistent_batches() | odd_batches(), max_size=5), st.sampled_from([1, 4096, 1 << 20]))
def test_any_messages_survive_the_file_bit_by_bit(batches: list[ProfileBatch], group_bytes: int) -> None:
    recording = Recording("any", [], batches)
    assert encoded(through_a_file(recording, group_bytes)) == encoded(recording)


@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path.stem)
def test_a_real_recording_is_the_same_after_conversion(path: Path, tmp_path: Path) -> None:
    recording = read_npz(path)
    write_parquet(recording, tmp_path / "r.parquet")
    assert read_parquet(tmp_path / "r.parquet") == recording


def test_manifests_and_phases_survive_under_keys_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "r.parquet"
    recording = Recording("a name", [MANIFEST], [], [Phase("normal", 1.5, 2.5, True)])
    write_parquet(recording, path)
    assert read_parquet(path) == recording
    about = pq.read_metadata(path).metadata
    assert json.loads(about[b"layerwatch.manifests"])[0][1] == "sha256:1"
    assert json.loads(about[b"layerwatch.phases"])[0]["name"] == "normal"


def test_an_analyst_finds_one_row_an_execution(tmp_path: Path) -> None:
    recording = read_npz(DATA / "shape-jump-h200.npz")
    write_parquet(recording, tmp_path / "r.parquet")
    table = pq.read_table(tmp_path / "r.parquet")
    rows = table.filter(pc.equal(table["kind"], "execution"))
    assert len(rows) == recording.executions
    assert rows["time_s"].null_count == rows["end_to_end_ms"].null_count == rows["layers_ms"].null_count == 0
    assert set(pc.unique(rows["profile"]).to_pylist()) == {0, 1}
    assert json.loads(rows["shapes"][0].as_py()).keys() == {"input"}
    assert {len(rows["layers_ms"][i]) for i in range(0, len(rows), 97)} <= {144, 148}


def test_a_crash_leaves_the_former_file_and_no_half_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unraisable: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", unraisable.append)
    path = tmp_path / "r.parquet"
    write_parquet(Recording("former", [], []), path)
    batches = read_npz(DATA / "resnet50-int8-h200.npz").batches

    def crash() -> None:
        with ParquetRecorder(path, "new", group_bytes=1) as recorder:
            recorder.batch(batches[0])
            raise RuntimeError

    with pytest.raises(RuntimeError):
        crash()
    gc.collect()
    assert not unraisable
    assert read_parquet(path).name == "former"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path, small_files: None) -> None:
    with pytest.raises(Unavailable, match="free space"):
        write_parquet(read_npz(DATA / "resnet50-int8-h200.npz"), tmp_path / "r.parquet")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def small_files() -> Iterator[None]:
    """No file can grow past 50 kB, as if the disk were full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_rows_are_written_while_they_come(tmp_path: Path) -> None:
    batches = read_npz(DATA / "resnet50-int8-h200.npz").batches
    with ParquetRecorder(tmp_path / "r.parquet", "r", group_bytes=100_000) as recorder:
        for batch in batches:
            recorder.batch(batch)
    assert pq.ParquetFile(tmp_path / "r.parquet").num_row_groups > 5


def rewritten(path: Path, table: pa.Table, **metadata: str) -> Path:
    """The table with the file's metadata, some of it replaced."""
    kept = {k: v for k, v in (pq.read_metadata(path).metadata or {}).items() if k != b"ARROW:schema"}
    kept |= {f"layerwatch.{key}".encode(): value.encode() for key, value in metadata.items()}
    pq.write_table(table.replace_schema_metadata(kept), path)
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "r.parquet"
    write_parquet(read_npz(DATA / "resnet50-int8-h200.npz"), path)
    return path


def test_columns_and_metadata_that_a_newer_writer_adds_are_tolerated(file: Path) -> None:
    before = read_parquet(file)
    table = pq.read_table(file)
    phases = [{"name": "p", "start_s": 1, "end_s": 2, "healthy": True, "more": 1}]
    more = table.append_column("more", pa.array(range(len(table))))
    rewritten(file, more, format="layerwatch.recording/1.4", more="x", phases=json.dumps(phases))
    after = read_parquet(file)
    assert (after.batches, after.manifests) == (before.batches, before.manifests)
    assert after.phases == [Phase("p", 1, 2, True)]


def test_another_major_version_is_refused_by_name(file: Path) -> None:
    rewritten(file, pq.read_table(file), format="layerwatch.recording/2")
    with pytest.raises(ConfigError, match=r"layerwatch\.recording/2"):
        read_parquet(file)


def test_a_message_that_lost_executions_is_refused(file: Path) -> None:
    rewritten(file, pq.read_table(file).slice(0, 10))
    with pytest.raises(ConfigError, match="a message of 29 executions has 9"):
        read_parquet(file)


def test_a_missing_column_is_refused(file: Path) -> None:
    rewritten(file, pq.read_table(file).drop_columns(["flags"]))
    with pytest.raises(ConfigError, match="not a recording that can be read"):
        read_parquet(file)


def test_parquet_of_others_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.parquet"
    pq.write_table(pa.table({"a": [1]}), path)
    with pytest.raises(ConfigError, match="layerwatch record"):
        read_parquet(path)


@given(st.binary(max_size=300))
def test_bytes_that_are_no_parquet_are_refused(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "r.parquet"
        path.write_bytes(data)
        with pytest.raises(ConfigError):
            read_parquet(path)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot write"):
        write_parquet(Recording("r", [], []), tmp_path / "absent" / "r.parquet")
