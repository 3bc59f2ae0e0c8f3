"""Figures of several runs as Markdown: medians, with the range, beside the goals."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterable, Iterator

import psutil

from tests.bench.measurements import COST, OTHER, SPEED, Figure

Cell = tuple[str, str, str]


class Sheet:
    """The figures so far."""

    def __init__(self) -> None:
        self._cells: dict[Cell, list[Figure]] = {}

    def add(self, figure: Figure) -> None:
        """Take a figure of one run."""
        self._cells.setdefault((figure.table, figure.row, figure.column), []).append(figure)

    def missed(self) -> list[str]:
        """Medians that are not what they should be."""
        return [f"{row}: {column}" for (_, row, column), figures in self._cells.items() if _median(figures).missed]

    def markdown(self) -> str:
        """All tables."""
        parts = [_machine()]
        parts += [
            "\n".join([f"### {table}", "", *self._table(table)])
            for table in (SPEED, COST)
            if any(cell[0] == table for cell in self._cells)
        ]
        if rest := [(cell, figures) for cell, figures in self._cells.items() if cell[0] == OTHER]:
            lines = [f"| {row} | {column} | {_cell(figures)} |" for (_, row, column), figures in rest]
            parts.append("\n".join([f"### {OTHER}", "", "| when | what | measured |", "|---|---|---|", *lines]))
        return "\n\n".join(parts) + "\n"

    def _table(self, table: str) -> Iterator[str]:
        rows = _once(row for name, row, _ in self._cells if name == table)
        columns = _once(column for name, _, column in self._cells if name == table)
        yield f"| | {' | '.join(columns)} |"
        yield "|---" * (len(columns) + 1) + "|"
        for row in rows:
            cells = (self._cells.get((table, row, column)) for column in columns)
            yield f"| {row} | {' | '.join(_cell(figures) if figures else '–' for figures in cells)} |"


def _cell(figures: list[Figure]) -> str:
    """The median, the range when there is one, and the goal: **7.3** (7.1–7.5; ≤ 9.5)."""
    middle = _median(figures)
    values = [figure.value for figure in figures]
    notes = []
    low, high = f"{min(values):,.{middle.digits}f}", f"{max(values):,.{middle.digits}f}"
    if low != high:
        notes.append(f"{low}–{high}")
    if middle.goal is not None:
        notes.append(f"{'≥' if middle.least else '≤'} {middle.goal:g}{', MISSED' if middle.missed else ''}")
    text = f"**{middle.value:,.{middle.digits}f}**"
    return f"{text} ({'; '.join(notes)})" if notes else text


def _median(figures: list[Figure]) -> Figure:
    """The figure in the middle, of an even number the worse one of the two."""
    ordered = sorted(figures, key=lambda figure: figure.value, reverse=figures[0].least)
    return ordered[len(ordered) // 2]


def _once(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _machine() -> str:
    memory = psutil.virtual_memory().total / 2**30
    return (
        f"{time.strftime('%Y-%m-%d')}, {platform.system()} {platform.machine()}, {os.cpu_count()} cores,"
        f" {memory:.0f} GiB, Python {platform.python_version()}; generator and simulated upstream on the same cores."
    )
