"""Layers matched across builds: names of real engines, and the ways in which TensorRT renames, fuses and splits."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from functools import lru_cache

import pytest
from detection import DATA, recording
from hypothesis import given, settings
from hypothesis import strategies as st

from layerwatch.detectors.layer_match import BETWEEN, REST, Cell, blocks_of, match_layers
from layerwatch.detectors.layer_names import canonical, nodes_of, owner
from layerwatch.schemas.engines import Layer
from layerwatch.schemas.groups import group_of


def layers(*names: str) -> list[Layer]:
    return [Layer(name, group_of(name)) for name in names]


@lru_cache(maxsize=8)
def real(name: str = "rebuild-h200") -> list[list[Layer]]:
    """Each build of a recording, or each profile of its only build."""
    return [p.layers for manifest in recording(name).manifests for p in manifest.profiles]


def covers(cells: list[Cell], old: list[Layer], new: list[Layer]) -> bool:
    mine, theirs = (Counter(i for cell in cells for i in side(cell)) for side in (_old, _new))
    return mine == Counter(range(len(old))) and theirs == Counter(range(len(new)))


def _old(cell: Cell) -> tuple[int, ...]:
    return cell.old


def _new(cell: Cell) -> tuple[int, ...]:
    return cell.new


@pytest.mark.parametrize(
    ("name", "stays"),
    [
        ("/blocks.0/fc1/Conv + /blocks.0/act/Mul [profile 1]", "/blocks.0/fc1/Conv + /blocks.0/act/Mul"),
        ("__myl_FcAddMul_0x3f2a_myl4_12", "FcAddMul"),
        ("__myl_FcAddMul_myl4_12 [profile 2]", "FcAddMul"),
        ("ln.g_clone_3", "ln.g"),
        ("PWN((Unnamed Layer* 139) [Shuffle] + /a/Add)", "PWN([Shuffle] + /a/Add)"),
    ],
)
def test_what_a_rebuild_appends_is_dropped(name: str, stays: str) -> None:
    assert canonical(name) == stays


def test_a_fused_name_holds_its_nodes() -> None:
    assert nodes_of("PWN(PWN(/a/C + (Unnamed Layer* 1) [Shuffle], /a/Div), /a/Add) + /b/Conv || /c/Conv") == [
        "/a/C",
        "/a/Div",
        "/a/Add",
        "/b/Conv",
        "/c/Conv",
    ]


def test_a_copy_belongs_to_the_layer_that_it_serves() -> None:
    assert (
        owner("Reformatting CopyNode for Input Tensor 1 to /a/Conv + /a/Add [profile 1]")
        == "/a/Conv + /a/Add"
    )
    assert owner("/a/Reshape_2_copy_input") == "/a/Reshape_2"
    assert owner("/a/Conv") is None


@pytest.mark.parametrize(("old", "new"), [(0, 1), (0, 2), (1, 2), (2, 0)])
def test_builds_of_a_real_engine_are_matched_block_by_block(old: int, new: int) -> None:
    one, other = real()[old], real()[new]
    cells = match_layers(one, other)
    assert covers(cells, one, other)
    assert blocks_of(cells)[:4] == ["blocks.0", "blocks.1", "blocks.2", "blocks.3"]
    alone = [cell for cell in cells if not (cell.old and cell.new)]
    assert {cell.block for cell in alone} <= {BETWEEN}
    assert max(len(cell.old) + len(cell.new) for cell in cells) <= 8
    for cell in cells:
        groups = {one[i].group.split("/")[0] for i in cell.old} | {
            other[i].group.split("/")[0] for i in cell.new
        }
        assert cell.block == BETWEEN or groups <= {cell.block, ""}


def test_a_build_of_twelve_blocks_matches_one_with_other_formats() -> None:
    names = json.loads(gzip.decompress((DATA / "transformer12-h200.names.json.gz").read_bytes()))
    one, other = layers(*names["first"]), layers(*names["second"])
    cells = match_layers(one, other)
    assert covers(cells, one, other)
    assert blocks_of(cells) == [*(f"blocks.{i}" for i in range(12)), REST, BETWEEN]
    assert {cell.block for cell in cells if not (cell.old and cell.new)} == {BETWEEN}
    assert sum(len(cell.new) for cell in cells if cell.block == BETWEEN) <= 12


def test_profiles_of_a_real_engine_are_matched() -> None:
    one, other = real("shape-jump-h200")
    cells = match_layers(one, other)
    assert covers(cells, one, other)
    assert sum(1 for cell in cells if cell.old and cell.new) >= 110


@pytest.mark.parametrize("name", ["rebuild-h200", "resnet50-h200", "resnet50-int8-h200"])
def test_a_build_matches_itself_layer_by_layer(name: str) -> None:
    own = real(name)[0]
    cells = match_layers(own, own)
    assert all(cell.old == cell.new for cell in cells)


def test_a_copy_that_moves_across_a_border_charges_neither_block() -> None:
    one = layers("/blocks.0/fc/Conv", "/blocks.1/fc/Conv")
    out = "Reformatting CopyNode for Output Tensor 0 to /blocks.0/fc/Conv"
    into = "Reformatting CopyNode for Input Tensor 0 to /blocks.1/fc/Conv"
    for copy in (out, into):
        other = layers("/blocks.0/fc/Conv", copy, "/blocks.1/fc/Conv")
        assert Cell(BETWEEN, (), (1,)) in match_layers(one, other)


def test_the_kth_layer_of_a_name_is_the_kth_of_the_other_build() -> None:
    one, other = layers("x", "y", "x", "x"), layers("x", "x", "y", "x")
    assert {(cell.old, cell.new) for cell in match_layers(one, other)} == {
        ((0,), (0,)),
        ((1,), (2,)),
        ((2,), (1,)),
        ((3,), (3,)),
    }


def test_work_fused_across_blocks_counts_for_the_same_block_on_both_sides() -> None:
    one = layers("/blocks.0/Add", "/blocks.1/ln/Mul", "/blocks.1/fc/Conv")
    other = layers("/blocks.0/Add + /blocks.1/ln/Mul", "/blocks.1/fc/Conv")
    cells = match_layers(one, other)
    assert Cell("blocks.0", (0, 1), (0,)) in cells
    assert Cell("blocks.1", (2,), (1,)) in cells


def test_blocks_that_one_layer_swallows_are_compared_as_one() -> None:
    one = layers("/stem/Conv", "/blocks.0/a", "/blocks.1/b", "/blocks.2/c", "/blocks.3/d")
    other = layers("/stem/Conv", "{ForeignNode[/blocks.0/a.../blocks.2/c]}", "/blocks.3/d")
    blocks = {i: cell.block for cell in match_layers(one, other) for i in cell.old}
    assert blocks == {
        0: REST,
        1: "blocks.0..blocks.2",
        2: "blocks.0..blocks.2",
        3: "blocks.0..blocks.2",
        4: "blocks.3",
    }


def test_names_that_say_nothing_match_by_name_alone() -> None:
    one = layers("__myl_Fc_0x1_myl1_1", "__myl_Softmax_0x2_myl1_2")
    other = layers("__myl_Softmax_0x9_myl3_2", "__myl_Fc_0x7_myl3_1", "__myl_New_myl3_9")
    cells = match_layers(one, other)
    assert covers(cells, one, other)
    assert {(cell.old, cell.new) for cell in cells} == {((0,), (1,)), ((1,), (0,)), ((), (2,))}


SUFFIXES = st.sampled_from(["", " [profile 1]", "_0x3fa9", "_myl2_7", "_0xbeef_myl12_3 [profile 3]"])


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_no_block_loses_time_when_neighbours_fuse_split_or_change_their_names(data: st.DataObject) -> None:
    """Whatever is renamed, and whichever neighbours of a block become one, each block is the same work on both sides."""
    one = real(data.draw(st.sampled_from(["rebuild-h200", "resnet50-h200"])))[0]
    blocks = [layer.group.split("/")[0] for layer in one]
    names, made_of = [], []
    i = 0
    while i < len(one):
        fuse = (
            i + 1 < len(one)
            and blocks[i] == blocks[i + 1] != ""
            and owner(one[i].name) is owner(one[i + 1].name) is None
            and data.draw(st.booleans())
        )
        members = [i, i + 1] if fuse else [i]
        names.append(" + ".join(one[m].name for m in members) + data.draw(SUFFIXES))
        made_of.append(members)
        i += len(members)
    fused = layers(*names)
    for old, new, sources, back in ((one, fused, made_of, False), (fused, one, made_of, True)):
        cells = match_layers(old, new)
        assert covers(cells, old, new)
        for cell in cells:
            ours, theirs = (cell.new, cell.old) if back else (cell.old, cell.new)
            assert sorted(ours) == sorted(m for layer in theirs for m in sources[layer])
            assert {blocks[m] for m in ours} <= {cell.block, ""}
