"""`python -m tests.bench --runs 5`: measures, prints the tables, and writes them with --output FILE.

The batches of the runs take from 4.5 to 5.5 s, so that no phase of the polling is lucky. Exits 1 when a median
misses its goal.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from tests.bench.measurements import MEASUREMENTS
from tests.bench.report import Sheet

SHORTEST, LONGEST = 4.5, 5.5


def main() -> None:
    """Run the bench from the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--only", nargs="*", choices=MEASUREMENTS, default=list(MEASUREMENTS))
    parser.add_argument("--output", type=Path, help="a file for the tables, as Markdown")
    given = parser.parse_args()
    sheet = Sheet()
    for run in range(given.runs):
        delay = SHORTEST + (LONGEST - SHORTEST) * (run + 0.5) / given.runs
        for name in given.only:
            began = time.monotonic()
            said = []
            for figure in MEASUREMENTS[name](delay):
                sheet.add(figure)
                said.append(f"{figure.column} {figure.value:,.{figure.digits}f}")
            _say(f"run {run + 1} of {given.runs}, {name}: {'; '.join(said)} [{time.monotonic() - began:.0f} s]")
    tables = sheet.markdown()
    _say("", tables)
    if given.output:
        given.output.write_text(tables)
    if missed := sheet.missed():
        _say("missed:", *missed)
        sys.exit(1)


def _say(*lines: str) -> None:
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
