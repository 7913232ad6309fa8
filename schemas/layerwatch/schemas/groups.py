"""The block that a layer belongs to, from its name: how people speak of a model's parts."""

from __future__ import annotations

import re

# blocks.7/attn, layer3.0, encoder.layer.11, h.5: a repeated part's name, its number, and one part inside it
_BLOCK = re.compile(
    r"(?:^|[/.\s(])((?:blocks?|layers?|encoders?|decoders?|stages?|h)[._/]?\d+(?:\.\d+)?)(?:[/.]([a-z]\w*))?",
    re.IGNORECASE,
)


# torchvision's /layer3/layer3.0/...: the stage says nothing that the block does not
_STAGE = re.compile(r"([a-z]+\d+)/(?=\1\.)", re.IGNORECASE)


def group_of(name: str) -> str:
    """`/blocks.7/attn/Softmax` gives `blocks.7/attn`; "" where the name tells nothing (fused or generated)."""
    match = _BLOCK.search(_STAGE.sub("", name))
    if match is None:
        return ""
    block, part = match.groups()
    return f"{block}/{part}" if part else block
