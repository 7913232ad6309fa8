"""Shapes as a thread knows them: what a record and the sampler need of them, and which a context ran before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from layerwatch.probe.usual import Look, Seen, Shape, Shapes
from layerwatch.schemas.ring import encode_dimensions
from layerwatch.schemas.runtimes import Input

#: Shapes that a thread remembers; beyond, it begins anew.
_MAX_SHAPES = 4096
#: Shapes that are remembered with a context, so that one may follow another quickly.
_MAX_OTHERS = 256


def remember(seen: Seen, look: Look) -> None:
    """The context has this look from now on."""
    seen.look = look
    seen.since_change = 0
    if look.shapes is not None:
        if len(seen.others) >= _MAX_OTHERS:
            seen.others.clear()
        seen.others[tuple(look.shapes.items())] = look


def kept(shapes: Shapes | None) -> dict[str, Sequence[int]] | None:
    """A copy that the same shapes are equal to; None for lists and the like, which their owner may change."""
    if not shapes or not all(type(dims) is tuple for dims in shapes.values()):
        return None
    return dict(shapes)


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
