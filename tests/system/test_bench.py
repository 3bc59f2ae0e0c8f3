"""`make bench` measures what it says and writes the table."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.running import ROOT


def test_a_measurement_is_written_as_a_table_with_its_goal(tmp_path: Path) -> None:
    tables = tmp_path / "tables.md"
    command = [sys.executable, "-m", "tests.bench", "--only", "queued", "--output", str(tables)]

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110)

    row = re.search(r"memory of Redis per request, kB \| \*\*([\d.]+)\*\* \(≤ 2.614(, MISSED)?\)", tables.read_text())
    assert row, done.stdout + done.stderr
    assert 1 < float(row[1]) < 4  # the body alone is one
    assert done.returncode == bool(row[2])
