"""What stays of a layer's name when an engine is built anew: its network nodes, without TensorRT's own additions."""

from __future__ import annotations

import re

from layerwatch.schemas.engines import Layer
from layerwatch.schemas.groups import group_of

_REFORMAT = re.compile(r"^Reformatting CopyNode for (?:Input|Output) Tensor \d+ to ", re.IGNORECASE)
_COPY = re.compile(r"_copy_(?:input|output)\w*$")
#: Counters and hashes that TensorRT appends: profiles of one engine, Myelin's kernels, clones of a constant.
_SUFFIXES = re.compile(r"(?: \[profile \d+\]|_0x[0-9a-f]+|_myl\d+(?:_\d+)?|_clone_\d+)$", re.IGNORECASE)
_UNNAMED = re.compile(r"\(Unnamed Layer\* \d+\) ")
_SPAN = re.compile(r"\{ForeignNode\[(.+?)\.\.\.(.+?)\]\}")
_BETWEEN_NODES = re.compile(r" \+ | \|\| |, |PWN\(|[()]")


def canonical(name: str) -> str:
    """The name without what a rebuild changes; `__myl_FcAdd_0x1f_myl3_7 [profile 1]` gives `FcAdd`."""
    before = ""
    while before != name:
        before, name = name, _SUFFIXES.sub("", name)
    return _UNNAMED.sub("", name).removeprefix("__myl_")


def owner(name: str) -> str | None:
    """The layer that a reformatting or copying one serves, in canonical form; None for a layer in its own right."""
    name = canonical(name)
    served = _REFORMAT.sub("", name)
    if served != name:
        return canonical(_COPY.sub("", served))
    if _COPY.search(name):
        return _COPY.sub("", name)
    return None


def nodes_of(name: str) -> list[str]:
    """The nodes of the network that were fused into a layer; `PWN(/a/Mul, /a/Add) + /b/Conv` gives three."""
    plain = canonical(name)
    if _SPAN.search(plain):
        return [plain]
    parts = (part.strip() for part in _BETWEEN_NODES.split(plain))
    return list(dict.fromkeys(canonical(part) for part in parts if part and not part.startswith("[")))


def block_of(layer: Layer) -> str:
    """The repeated part of the model that a layer belongs to: `blocks.7` of `blocks.7/attn`; "" where no name says it."""
    group = layer.group or group_of(layer.name)
    return group.split("/")[0]


def span_of(name: str) -> tuple[str, str] | None:
    """The blocks of the first and last node of a region that TensorRT keeps as one layer; None for any other layer."""
    found = _SPAN.search(name)
    if found is None:
        return None
    first, last = (group_of(node).split("/")[0] for node in found.groups())
    return first, last
