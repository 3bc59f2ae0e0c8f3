"""The dashboard's plots as bars in a box of 1,000 by 100. Pure: numbers in, numbers out."""

from __future__ import annotations

import math
from typing import Any, Final, NamedTuple

WIDTH: Final = 1000.0
HEIGHT: Final = 100.0
GAP: Final = 0.2  # of a column
#: Lines of a plot of times: ms and how they are called.
TIMES: Final = (
    (100, "0.1 s"), (1000, "1 s"), (10_000, "10 s"), (60_000, "1 min"), (600_000, "10 min"),
    (3_600_000, "1 h"), (36_000_000, "10 h"), (86_400_000, "24 h"),
)  # fmt: skip


class Bar(NamedTuple):
    """A rectangle; `kind` is its class in the style sheet."""

    x: float
    y: float
    width: float
    height: float
    kind: str


def stacked(columns: list[list[tuple[str, float]]]) -> list[Bar]:
    """Columns of parts on top of each other, the first at the bottom; the highest column fills the box."""
    most = max((sum(value for _, value in parts) for parts in columns), default=0.0)
    bars: list[Bar] = []
    if most <= 0:
        return bars
    width = WIDTH / len(columns)
    for number, parts in enumerate(columns):
        bottom = HEIGHT
        for kind, value in parts:
            if value > 0:
                height = max(1.0, value / most * HEIGHT)
                bottom = max(0.0, bottom - height)
                bars.append(_bar(number * width, bottom, width * (1 - GAP), height, kind))
    return bars


def ranges(steps: list[dict[str, Any]]) -> tuple[list[Bar], list[tuple[float, str]]]:
    """Median and 95th percentile of each step on a logarithmic scale, and the lines that name it."""
    seen = [step for step in steps if step["answers"]]
    if not seen:
        return [], []
    low = max([at for at, _ in TIMES if at <= min(step["p50_time_ms"] for step in seen)], default=TIMES[0][0])
    high = min([at for at, _ in TIMES if at >= max(step["p95_time_ms"] for step in seen)], default=TIMES[-1][0])
    if high <= low:
        high = next((at for at, _ in TIMES if at > low), low * 10)
    scale = HEIGHT / math.log(high / low)

    def y(ms: float) -> float:
        return min(HEIGHT, max(0.0, HEIGHT - math.log(max(ms, 1) / low) * scale))

    width = WIDTH / len(steps)
    bars = []
    for number, step in enumerate(steps):
        if step["answers"]:
            x, top, middle = number * width, y(step["p95_time_ms"]), y(step["p50_time_ms"])
            bars.append(_bar(x, top, width * (1 - GAP), max(2.5, middle - top), "range"))
            bars.append(_bar(x, min(middle, HEIGHT - 2.5), width * (1 - GAP), 2.5, "median"))
    return bars, [(round(y(at), 1), name) for at, name in TIMES if low <= at <= high]


def drawn(bars: list[Bar]) -> list[tuple[str, str]]:
    """Kind and outline, one path for all bars of a kind: a third of what a rectangle for each would take."""
    found: dict[str, list[str]] = {}
    for bar in bars:
        outline = f"M{bar.x:g} {bar.y:g}h{bar.width:g}v{bar.height:g}h-{bar.width:g}z"
        found.setdefault(bar.kind, []).append(outline)
    return [(kind, "".join(outlines)) for kind, outlines in found.items()]


def _bar(x: float, y: float, width: float, height: float, kind: str) -> Bar:
    return Bar(round(x, 1), round(y, 1), round(width, 1), round(height, 1), kind)
