"""SVG by hand: an element, a time axis, a value axis, a line with gaps."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape

from layerwatch.evaluation.executions import F64

WIDTH, LEFT, RIGHT = 1160, 136, 14


def element(tag: str, text: str = "", title: str = "", **attributes: object) -> str:
    """An element whose text and attributes are escaped; `class_` becomes class, `text_anchor` text-anchor."""
    named = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{escape(_short(value))}"'
        for name, value in attributes.items()
    )
    inner = (f"<title>{escape(title)}</title>" if title else "") + escape(text)
    return f"<{tag}{named}>{inner}</{tag}>"


def _short(value: object) -> str:
    return f"{value:.1f}" if isinstance(value, float) else str(value)


@dataclass(frozen=True, slots=True)
class TimeAxis:
    """Seconds since the recording's start to pixels."""

    length_s: float

    def x(self, time_s: float) -> float:
        inside = min(max(time_s, 0.0), self.length_s)
        return LEFT + inside / self.length_s * (WIDTH - LEFT - RIGHT)

    def ticks(self) -> list[float]:
        rough = self.length_s / 10
        step = next(m * 10**e for e in range(-3, 9) for m in (1, 2, 5) if m * 10**e >= rough)
        return [i * step for i in range(int(self.length_s / step) + 1)]


@dataclass(frozen=True, slots=True)
class ValueAxis:
    """Values to pixels, between `top` and `bottom`; logarithmic where `log`."""

    low: float
    high: float
    top: float
    bottom: float
    log: bool

    def y(self, value: float) -> float:
        inside = min(max(value, self.low), self.high)
        if self.log:
            share = math.log(inside / self.low) / math.log(self.high / self.low)
        else:
            share = (inside - self.low) / (self.high - self.low)
        return self.bottom - share * (self.bottom - self.top)

    def ticks(self) -> list[float]:
        if not self.log:
            return [self.low, (self.low + self.high) / 2, self.high]
        powers = (m * 10.0**e for e in range(-3, 7) for m in (1, 2, 5))
        ticks = [tick for tick in powers if self.low <= tick <= self.high]
        return ticks if len(ticks) <= 5 else [tick for tick in ticks if f"{tick:e}".startswith("1")]


def path(times: TimeAxis, values: ValueAxis, times_s: F64, line: F64, class_: str) -> str:
    """A line that is interrupted where there is no value."""
    steps = []
    pen_down = False
    for time_s, value in zip(times_s.tolist(), line.tolist(), strict=True):
        if math.isnan(value):
            pen_down = False
            continue
        steps.append(f"{'L' if pen_down else 'M'}{times.x(time_s):.1f} {values.y(value):.1f}")
        if not pen_down:
            steps.append("h0.8")  # a lone point is seen, too
        pen_down = True
    return element("path", d="".join(steps), class_=f"line {class_}")


def lanes(spans: Iterable[tuple[float, float]]) -> list[int]:
    """The first free lane for each span (left, right), in their order."""
    ends: list[float] = []
    chosen = []
    for left, right in spans:
        free = next((lane for lane, end in enumerate(ends) if end < left), len(ends))
        if free == len(ends):
            ends.append(right)
        else:
            ends[free] = right
        chosen.append(free)
    return chosen
