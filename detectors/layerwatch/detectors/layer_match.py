"""Which layers of one build do the work of which layers of another: from names and call order alone.

TensorRT fuses, splits, renames and reformats anew with every build, so layers are matched as cells: the smallest
sets of old and new layers that hold the same nodes of the network. A cell belongs to one block of the model on both
sides, and every layer is in one cell, so a block's time is the same work before and after.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from layerwatch.detectors.layer_names import block_of, canonical, nodes_of, owner, span_of
from layerwatch.schemas.engines import Layer

REST = ""  # layers of no block: embeddings and heads
BETWEEN = (
    "between"  # copies between two blocks that only one of the builds makes: no block is charged with them
)


@dataclass(frozen=True, slots=True)
class Cell:
    """Old and new layers (indices into the two lists) that do the same work; one side may be empty."""

    block: str
    old: tuple[int, ...]
    new: tuple[int, ...]


def match_layers(old: list[Layer], new: list[Layer]) -> list[Cell]:
    """Cells that cover every layer of both builds once, in the old build's order and then the new one's."""
    sides = (_Side(old), _Side(new))
    sets = _Sets(len(old) + len(new))
    _join_same_names(sides, sets)
    _join_same_nodes(sides, sets)
    alone = _copies_between_blocks(sides)
    for side, offset in zip(sides, (0, len(old)), strict=True):
        for index, served in side.served.items():
            if offset + index not in alone:
                sets.join(offset + index, offset + served)
    return _cells(sides, sets, alone)


class _Side:
    """The layers of one build, with the names that matching goes by."""

    def __init__(self, layers: list[Layer]) -> None:
        self.layers = layers
        self.blocks = blocks_in_order(layers)
        owners = [owner(layer.name) for layer in layers]
        self.copies = {i for i, served in enumerate(owners) if served is not None}
        self.names = [canonical(layer.name) for layer in layers]
        at = {name: i for i, name in reversed(list(enumerate(self.names))) if i not in self.copies}
        self.served = {
            i: at[served] for i, served in enumerate(owners) if served is not None and served in at
        }
        self.nodes: dict[str, int] = {}
        shared = set()
        for i, layer in enumerate(layers):
            for node in nodes_of(layer.name) if i not in self.copies else ():
                if node in self.nodes:
                    shared.add(node)
                self.nodes[node] = i
        for node in shared:  # a constant that many layers use says nothing about any
            del self.nodes[node]

    def occurrences(self) -> dict[tuple[str, int], int]:
        """(canonical name, how many before it have the same one) to index."""
        count: dict[str, int] = defaultdict(int)
        out = {}
        for i, name in enumerate(self.names):
            out[name, count[name]] = i
            count[name] += 1
        return out

    def crosses(self, index: int) -> bool:
        """Whether a layer is called between two blocks: its neighbours belong to different ones."""
        near = [i for i in (index - 1, index + 1) if 0 <= i < len(self.blocks)]
        return len({self.blocks[i] for i in near}) > 1


class _Sets:
    """Disjoint sets of layers; the first member stands for its set."""

    def __init__(self, size: int) -> None:
        self._parent = list(range(size))

    def of(self, member: int) -> int:
        while self._parent[member] != member:
            self._parent[member] = self._parent[self._parent[member]]
            member = self._parent[member]
        return member

    def join(self, one: int, other: int) -> None:
        low, high = sorted((self.of(one), self.of(other)))
        self._parent[high] = low


def _join_same_names(sides: tuple[_Side, _Side], sets: _Sets) -> None:
    old, new = sides
    at = new.occurrences()
    for key, index in old.occurrences().items():
        if key in at:
            sets.join(index, len(old.layers) + at[key])


def _join_same_nodes(sides: tuple[_Side, _Side], sets: _Sets) -> None:
    old, new = sides
    for node in old.nodes.keys() & new.nodes.keys():
        sets.join(old.nodes[node], len(old.layers) + new.nodes[node])


def _copies_between_blocks(sides: tuple[_Side, _Side]) -> set[int]:
    """Copies between two blocks that one build makes and the other does not make there.

    Whether such a copy counts as the output of one block or the input of the next is TensorRT's whim.
    """
    alone = set()
    old, new = sides
    for side, other, offset in ((old, new, 0), (new, old, len(old.layers))):
        known = set(other.names)
        alone |= {offset + i for i in side.copies if side.crosses(i) and side.names[i] not in known}
    return alone


def blocks_in_order(layers: list[Layer]) -> list[str]:
    """The block of each layer; a nameless one between two layers of a block is part of that block."""
    blocks = [block_of(layer) for layer in layers]
    named = [i for i, block in enumerate(blocks) if block]
    out = list(blocks)
    for before, after in itertools.pairwise(named):
        if blocks[before] == blocks[after]:
            out[before:after] = [blocks[before]] * (after - before)
    return out


def _cells(sides: tuple[_Side, _Side], sets: _Sets, alone: set[int]) -> list[Cell]:
    split = len(sides[0].layers)
    members: dict[int, list[int]] = defaultdict(list)
    for layer in range(split + len(sides[1].layers)):
        members[sets.of(layer)].append(layer)
    blocks = [*sides[0].blocks, *sides[1].blocks]
    merged = _merged_blocks(sides)
    cells = []
    for root, group in members.items():
        # Work that was fused across blocks counts for the first of them, on both sides.
        first = next((blocks[i] for i in group if blocks[i]), REST)
        block = BETWEEN if root in alone else merged.get(first, first)
        old = tuple(i for i in group if i < split)
        cells.append(Cell(block, old, tuple(i - split for i in group if i >= split)))
    return cells


def _merged_blocks(sides: tuple[_Side, _Side]) -> dict[str, str]:
    """Blocks that one layer of either build holds whole: only their sum can be compared."""
    order = list(dict.fromkeys(block for side in sides for block in side.blocks if block))
    sets = _Sets(len(order))
    for side in sides:
        for i, layer in enumerate(side.layers):
            span = span_of(layer.name) if i not in side.copies else None
            if span is None or span[0] == span[1] or not set(span) <= set(order):
                continue
            first, last = sorted(order.index(block) for block in span)
            for between in range(first, last):
                sets.join(between, between + 1)
    return {block: _range_name(order, sets, i) for i, block in enumerate(order)}


def _range_name(order: list[str], sets: _Sets, index: int) -> str:
    together = [block for i, block in enumerate(order) if sets.of(i) == sets.of(index)]
    return together[0] if len(together) == 1 else f"{together[0]}..{together[-1]}"


def blocks_of(cells: Iterable[Cell]) -> list[str]:
    """The blocks of some cells, in order; `REST` and `BETWEEN` last."""
    blocks = dict.fromkeys(cell.block for cell in cells)
    last = [block for block in (REST, BETWEEN) if block in blocks]
    return [*(block for block in blocks if block not in last), *last]
