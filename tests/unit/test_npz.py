"""The .npz recordings against their own arrays: nothing lost, nothing at another execution, no labels."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from layerwatch.recording.npz import read_npz
from layerwatch.recording.recording import Recording
from layerwatch.schemas.codec import encode
from layerwatch.schemas.errors import ConfigError
from layerwatch.schemas.profiles import CHANGED_SHAPE, ProfileBatch

DATA = Path(__file__).parents[1] / "data"
PATHS = sorted(DATA.glob("*.npz"))

Archive = dict[str, NDArray[Any]]


@pytest.fixture(scope="module", params=PATHS, ids=lambda path: path.stem)
def pair(request: pytest.FixtureRequest) -> tuple[Recording, Archive]:
    with np.load(request.param) as archive:
        return read_npz(request.param), dict(archive)


def tables(archive: Archive) -> list[NDArray[Any]]:
    """The archive's layer tables in the order of the engines or profiles that they belong to."""
    names = ["layers", "alt_layers"] if "layers" in archive else ["layers0", "layers1", "layers2"]
    return [archive[name] for name in names if name in archive and archive[name].size]


def tables_of_rows(archive: Archive) -> NDArray[Any]:
    """Which table holds the layers of each execution."""
    return np.zeros(len(archive["rows"]), int) if "rows" in archive else archive["rec"][:, 5].astype(int)


def layer_rows(batch: ProfileBatch) -> Iterator[tuple[int, int, NDArray[Any]]]:
    """(execution within the message, profile, layer times) of every sampled execution."""
    for block in batch.layers:
        times = np.frombuffer(block.times_ms, "<f4").reshape(-1, block.layers)
        for row, values in zip(np.frombuffer(block.rows, "<u4").tolist(), times, strict=True):
            yield row, block.profile, values


def joined(recording: Recording, column: str, dtype: str) -> NDArray[Any]:
    return np.frombuffer(b"".join(getattr(batch, column) for batch in recording), dtype)


def test_executions_and_their_columns_are_the_archives(pair: tuple[Recording, Archive]) -> None:
    recording, archive = pair
    rec = archive["rec"] if "rec" in archive else archive["rows"]
    assert recording.executions == len(rec)
    assert np.array_equal(joined(recording, "times_s", "<f8"), rec[:, 0])
    end_to_end = rec[:, 4] if "rec" in archive else rec[:, 2]
    assert np.array_equal(joined(recording, "end_to_end_ms", "<f4"), end_to_end.astype("<f4"))
    if "rec" in archive:
        shapes = [
            batch.shapes[i]["input"] for batch in recording for i in np.frombuffer(batch.shape_index, "<u2")
        ]
        assert np.array_equal(shapes, rec[:, 2:4].astype(int))


def test_every_layer_row_lands_at_its_execution(pair: tuple[Recording, Archive]) -> None:
    recording, archive = pair
    source, owner = tables(archive), tables_of_rows(archive)
    place = np.zeros(len(owner), int)
    for table in np.unique(owner):
        place[owner == table] = np.arange(int((owner == table).sum()))
    first = landed = 0
    for batch in recording:
        for row, _, values in layer_rows(batch):
            execution = first + row
            assert np.array_equal(values, source[owner[execution]][place[execution]])
            landed += 1
        first += len(batch.times_s) // 8
    assert landed == sum(len(table) for table in source)


def test_the_layers_of_a_message_are_those_that_its_manifest_names(pair: tuple[Recording, Archive]) -> None:
    recording, _ = pair
    counts = {(m.engine, p.profile): len(p.layers) for m in recording.manifests for p in m.profiles}
    for batch in recording:
        profiles = np.frombuffer(batch.profile_index, "u1")
        for block in batch.layers:
            assert block.layers == counts[batch.engine, block.profile]
            assert set(profiles[np.frombuffer(block.rows, "<u4")]) == {block.profile}


def test_a_message_spans_at_most_a_second_64_executions_and_one_engine(
    pair: tuple[Recording, Archive],
) -> None:
    recording, archive = pair
    builds = [manifest.engine for manifest in recording.manifests]
    several = len(builds) > 1
    owner, first = tables_of_rows(archive), 0
    for batch in recording:
        times = np.frombuffer(batch.times_s, "<f8")
        assert len(times) <= 64
        if len(times):
            assert times[-1] - times[0] < 1.0
        if several:
            assert {builds[i] for i in owner[first : first + len(times)]} <= {batch.engine}
        first += len(times)


def test_clocks_and_sequences_never_go_back(pair: tuple[Recording, Archive]) -> None:
    recording, _ = pair
    assert [batch.sequence for batch in recording] == list(range(len(recording.batches)))
    assert np.all(np.diff(joined(recording, "times_s", "<f8")) >= 0)
    clock_s = recording.start_s
    for batch in recording:
        times = np.frombuffer(batch.times_s, "<f8")
        assert batch.window_start_s == clock_s
        assert batch.window_end_s >= clock_s
        assert np.all((times >= batch.window_start_s) & (times <= batch.window_end_s))
        clock_s = batch.window_end_s


def test_a_recording_says_goodbye_once_and_last(pair: tuple[Recording, Archive]) -> None:
    recording, _ = pair
    states = [batch.state for batch in recording]
    assert states[-1] == "leaving"
    assert states.count("leaving") == 1


def test_counters_are_the_archives_up_to_the_last_execution(pair: tuple[Recording, Archive]) -> None:
    recording, archive = pair
    counters = joined(recording, "counters", "<f8").reshape(-1, 14)
    if "gpu" not in archive:
        assert len(counters) == 0
        return
    until = archive["gpu"][:, 0] <= archive["rec"][-1, 0]
    assert np.array_equal(counters, archive["gpu"][until], equal_nan=True)


def test_labels_are_in_no_message(pair: tuple[Recording, Archive]) -> None:
    recording, _ = pair
    names = {phase.name for phase in recording.phases} - {"normal"}
    assert names
    assert any(phase.healthy for phase in recording.phases)
    sent = b"".join(encode(record) for record in [*recording.manifests, *recording.batches])
    assert not [name for name in names if name.encode() in sent]


def test_the_inputs_scale_of_the_int8_recording_is_in_no_message() -> None:
    recording = read_npz(DATA / "resnet50-int8-h200.npz")
    shapes = {json.dumps(shape) for batch in recording for shape in batch.shapes}
    assert shapes == {'{"input": [1, 1]}'}
    flags = b"".join(batch.flags for batch in recording)
    assert flags == bytes([CHANGED_SHAPE, *bytes(len(flags) - 1)])


def test_executions_of_another_shape_than_the_one_before_say_so(pair: tuple[Recording, Archive]) -> None:
    recording, archive = pair
    shape = archive["rec"][:, 2:4] if "rec" in archive else np.ones((len(archive["rows"]), 2))
    changed = [True, *(shape[1:] != shape[:-1]).any(axis=1)]
    assert [bool(flag & CHANGED_SHAPE) for batch in recording for flag in batch.flags] == changed


def archive_of(**arrays: NDArray[Any]) -> bytes:
    data = io.BytesIO()
    np.savez(data, **arrays)  # type: ignore[arg-type]
    return data.getvalue()


NAMES = np.array(["a", "b"])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"PK\x03\x04 no archive",
        b"text",
        PATHS[0].read_bytes()[:5000],
        archive_of(),
        archive_of(other=np.zeros(3)),
        archive_of(rec=np.zeros((0, 6)), layers=np.zeros((0, 2)), names=NAMES, phases=np.array("[]")),
        archive_of(rec=np.zeros((3, 2)), layers=np.zeros((3, 2)), names=NAMES, phases=np.array("[]")),
        archive_of(rec=np.zeros((3, 6)), layers=np.zeros((3, 2)), names=NAMES),
        archive_of(rec=np.zeros((3, 6)), layers=np.zeros((1, 2)), names=NAMES, phases=np.array("[]")),
        archive_of(rec=np.zeros((3, 6)), layers=np.zeros((3, 9)), names=NAMES, phases=np.array("[]")),
        archive_of(rows=np.zeros(4), layers=np.zeros((4, 2)), names=NAMES, marked=NAMES),
    ],
    ids=[
        "nothing",
        "no archive",
        "text",
        "half a file",
        "no arrays",
        "other arrays",
        "no executions",
        "too few columns",
        "no phases",
        "too few layer rows",
        "more layers than names",
        "flat rows",
    ],
)
def test_what_is_no_recording_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "r.npz"
    path.write_bytes(data)
    with pytest.raises(ConfigError, match=r"r\.npz"):
        read_npz(path)
