"""`make bench` measures what it says and writes the table."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.running import ROOT


def test_a_measurement_is_written_as_a_table_with_its_goal(tmp_path: Path) -> None:
    tables = tmp_path / "tables.md"
    command = [sys.executable, "-m", "tests.bench", "--only", "queued", "--output", str(tables)]

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "memory of Redis per request, kB | **2." in tables.read_text()
