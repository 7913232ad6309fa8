"""Recordings opened by suffix, renamed, moved in time and thinned."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from layerwatch.recording.npz import read_npz
from layerwatch.recording.open import open_recording
from layerwatch.recording.parquet import write_parquet
from layerwatch.recording.recording import Recording
from layerwatch.recording.shift import starting_at
from layerwatch.recording.thin import thinned
from layerwatch.schemas.errors import ConfigError
from layerwatch.schemas.profiles import ProfileBatch

DATA = Path(__file__).parents[1] / "data"


@pytest.fixture(scope="module")
def resnet() -> Recording:
    return read_npz(DATA / "resnet50-h200.npz")


def sampled(batch: ProfileBatch) -> int:
    return sum(len(block.rows) // 4 for block in batch.layers)


def test_both_formats_open_alike_and_take_other_names(tmp_path: Path) -> None:
    source = DATA / "resnet50-int8-h200.npz"
    copy = tmp_path / "resnet50-int8-h200.parquet"
    write_parquet(read_npz(source), copy)
    assert open_recording(copy) == open_recording(source)
    renamed = open_recording(copy, "shop", "shop-7")
    assert renamed.batches == open_recording(source, "shop", "shop-7").batches
    assert {manifest.service for manifest in renamed.manifests} == {"shop"}


def test_several_instances_keep_their_names_apart(tmp_path: Path) -> None:
    path = tmp_path / "two.parquet"
    one = read_npz(DATA / "resnet50-int8-h200.npz", service="s", instance="a")
    other = read_npz(DATA / "resnet50-int8-h200.npz", service="t", instance="b")
    write_parquet(Recording("two", one.manifests, one.batches + other.batches), path)
    renamed = open_recording(path, service="shop")
    assert {(batch.service, batch.instance) for batch in renamed} == {("shop", "a"), ("shop", "b")}
    with pytest.raises(ConfigError, match="leave out --instance"):
        open_recording(path, instance="c")


def test_a_file_that_is_missing_or_of_another_kind_is_refused_with_what_is_read(tmp_path: Path) -> None:
    other = tmp_path / "a.csv"
    other.write_text("1,2")
    for path in (tmp_path / "absent.npz", other):
        with pytest.raises(ConfigError, match=r"\.npz, \.parquet or \.lwlog"):
            open_recording(path)


def test_an_empty_recording_is_refused(tmp_path: Path) -> None:
    write_parquet(Recording("empty", [], []), tmp_path / "empty.parquet")
    with pytest.raises(ConfigError, match="holds no messages"):
        open_recording(tmp_path / "empty.parquet")


def test_a_recording_moved_in_time_keeps_every_interval(resnet: Recording) -> None:
    now_s = 2_000_000_000.0
    moved = starting_at(resnet, now_s)
    by_s = now_s - resnet.start_s
    assert moved.start_s == pytest.approx(now_s, abs=1e-6)
    for old, new in zip(resnet, moved, strict=True):
        assert new.window_end_s == pytest.approx(old.window_end_s + by_s, abs=1e-6)
        for column, width in (("times_s", 1), ("counters", 14)):
            before, after = (np.frombuffer(getattr(batch, column)).reshape(-1, width) for batch in (old, new))
            assert np.allclose(after[:, 0] - before[:, 0], by_s, rtol=0, atol=1e-6)
            assert np.array_equal(after[:, 1:], before[:, 1:], equal_nan=True)
        same = {"window_start_s": 0.0, "window_end_s": 0.0, "times_s": b"", "counters": b""}
        assert msgspec.structs.replace(new, **same) == msgspec.structs.replace(old, **same)
    assert moved.phases[0].end_s == pytest.approx(resnet.phases[0].end_s + by_s, abs=1e-6)


@pytest.mark.parametrize("share", [1.0, 0.5, 0.1, 0.003])
def test_thinning_keeps_the_share_of_layers_and_every_execution(resnet: Recording, share: float) -> None:
    thin = thinned(resnet, share)
    assert thin.executions == resnet.executions
    assert sum(sampled(batch) for batch in thin) == pytest.approx(share * resnet.executions, abs=5)
    assert {batch.rate for batch in thin} == {share}
    assert [batch.end_to_end_ms for batch in thin] == [batch.end_to_end_ms for batch in resnet]
    assert thinned(resnet, share) == thin


def test_thinned_layers_stay_with_their_execution(resnet: Recording) -> None:
    compared = 0
    for whole, thin in zip(resnet, thinned(resnet, 0.1), strict=True):
        for block in thin.layers:
            rows = np.frombuffer(block.rows, "<u4")
            times = np.frombuffer(whole.layers[0].times_ms, "<f4").reshape(-1, block.layers)
            assert np.array_equal(np.frombuffer(block.times_ms, "<f4").reshape(-1, block.layers), times[rows])
            compared += len(rows)
    assert compared > 1000


def test_a_message_that_contradicts_itself_is_replayed_as_it_was(resnet: Recording) -> None:
    broken = msgspec.structs.replace(resnet.batches[0], end_to_end_ms=b"abc", times_s=b"abc")
    odd = Recording("odd", [], [broken])
    assert thinned(odd, 0.5) == odd
    assert starting_at(odd, 0.0).batches[0].times_s == b"abc"


def test_thinning_favours_no_shape_of_a_periodic_load(resnet: Recording) -> None:
    chosen = np.concatenate([_chosen(batch) for batch in thinned(resnet, 0.1)])
    for period in (2, 5, 8, 10, 16):
        shares = [chosen[phase::period].mean() for phase in range(period)]
        assert min(shares) > 0.07, period
        assert max(shares) < 0.13, period


def _chosen(batch: ProfileBatch) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    chosen = np.zeros(len(batch.end_to_end_ms) // 4, bool)
    for block in batch.layers:
        chosen[np.frombuffer(block.rows, "<u4")] = True
    return chosen
