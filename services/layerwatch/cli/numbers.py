"""Numbers on the command line that must be above zero."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import click


class Positive(click.ParamType):
    """A finite number above 0 and up to `most`, or one of `words`."""

    name = "number"

    def __init__(self, most: float = math.inf, words: Mapping[str, float] | None = None) -> None:
        self._most = most
        self._words = words or {}

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if value in self._words:
            return self._words[value]
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not 0 < number <= self._most or math.isinf(number):
            up_to = "" if math.isinf(self._most) else f" and at most {self._most:g}"
            words = "".join(f", or {word}" for word in self._words)
            self.fail(f"{value} is not a number above 0{up_to}{words}", param, ctx)
        return number
