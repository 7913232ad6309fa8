"""Shapes as a thread knows them: what a record and the sampler need of them, and which a context ran before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from layerwatch.probe.run import Look
from layerwatch.schemas.ring import encode_dimensions
from layerwatch.schemas.runtimes import Input

Shapes = Mapping[str, Sequence[int]]

#: Shapes that a thread remembers; beyond, it begins anew.
_MAX_SHAPES = 4096
#: Shapes that are remembered with a context, so that one may follow another quickly.
_MAX_OTHERS = 256
#: Equal to no shapes at all.
_NO_SHAPES = object()


class Shape(NamedTuple):
    packed: bytes  # as in a record
    cell: object  # executions of one cell share their samples


class Known(NamedTuple):
    """A shape with a profile, as a context ran it before."""

    look: Look
    shape: Shape
    shapes: object  # as the caller gave them, where equal ones are this shape


class Seen:
    """A context as a thread saw it last."""

    __slots__ = ("_others", "known", "since_change")

    known: Known

    def __init__(self) -> None:
        self._others: dict[object, Known] = {}  # by shapes
        self.since_change = 0

    def now(self, look: Look, shape: Shape, shapes: Shapes | None) -> None:
        """From now on it has this shape; `shapes` where equal ones need not be looked at again."""
        kept = _kept(shapes)
        self.known = known = Known(look, shape, kept if kept else _NO_SHAPES)
        self.since_change = 0
        if kept:
            if len(self._others) >= _MAX_OTHERS:
                self._others.clear()
            self._others[tuple(kept.items())] = known

    def other(self, shapes: Shapes | None) -> Known | None:
        """Other shapes than the last ones; None where they are new, or given as lists."""
        if shapes is None:
            return None
        try:
            return self._others.get(tuple(shapes.items()))
        except TypeError:
            return None

    @property
    def remembered(self) -> int:
        """How many shapes."""
        return len(self._others)


class ShapeBook:
    """Of one thread: what its callers call shapes, as dimensions of the inputs that a record has."""

    def __init__(self, inputs: Sequence[Input]) -> None:
        self._inputs = inputs
        self._known: dict[object, Shape] = {}

    def shape(self, shapes: Shapes | None, context: Any) -> Shape:
        """Of these shapes, or as the context says; equal shapes give the same object."""
        if shapes is None:
            shapes = {known.name: tuple(context.get_tensor_shape(known.name)) for known in self._inputs}
        try:
            key: object = tuple(shapes.items())
            found = self._known.get(key)
        except TypeError:  # lists
            key = tuple((name, tuple(dims)) for name, dims in shapes.items())
            found = self._known.get(key)
        return self._learn(key, shapes) if found is None else found

    def _learn(self, key: object, shapes: Shapes) -> Shape:
        if len(self._known) >= _MAX_SHAPES:
            self._known.clear()
        dimensions: list[int] = []
        for known in self._inputs:
            dims = [int(d) for d in shapes.get(known.name, ())]
            dimensions += (dims + [-1] * known.rank)[: known.rank]
        # half octaves: among hundreds of lengths each would be too rare to have a share of its own
        cell = tuple((d * d).bit_length() if d > 0 else d for d in dimensions)
        made = self._known[key] = Shape(encode_dimensions(tuple(dimensions)), cell)
        return made


def _kept(shapes: Shapes | None) -> dict[str, Sequence[int]] | None:
    """A copy that the same shapes are equal to; None for lists and the like, which their owner may change."""
    if shapes is None or not all(type(dims) is tuple for dims in shapes.values()):
        return None
    return dict(shapes)
