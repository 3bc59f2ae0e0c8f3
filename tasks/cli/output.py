"""How commands speak: tables for people, JSON for programs, one sentence for what went wrong."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

console = Console(highlight=False)


def as_json(value: Any) -> None:
    """Print a value for a program."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Table:
    """A table without frames; columns whose names begin with ">" are numbers."""
    made = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for column in columns:
        made.add_column(column.lstrip(">"), justify="right" if column.startswith(">") else "left", overflow="fold")
    for row in rows:
        made.add_row(
            *(str(cell).replace("[", r"\[") if not hasattr(cell, "__rich_console__") else cell for cell in row)
        )
    return made


def fail(sentence: str, code: int = 1) -> typer.Exit:
    """Say what went wrong; to be raised."""
    typer.echo(f"llm-proxy: {sentence}", err=True)
    return typer.Exit(code)
