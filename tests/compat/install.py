"""`python -m tests.compat.install`: each client into a directory of its own under .clients, in its pinned version.

What is there already, in these versions, stays.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

from tests.compat.clients import CLIENTS, PROGRAMS, TABLE, Client
from tests.running import ROOT, environment

BIN = Path(sys.executable).parent


def main() -> None:
    """Install what is missing."""
    for client in TABLE:
        stamp = CLIENTS / client.name / "installed.json"
        wanted = json.dumps(client.packages)
        if client.packages and not (stamp.exists() and stamp.read_text() == wanted):
            sys.stdout.write(f"compat: installing {' '.join(client.packages)}\n")
            sys.stdout.flush()
            stamp.parent.mkdir(parents=True, exist_ok=True)
            (_npm if client.npm else _pypi)(client, stamp.parent)
            stamp.write_text(wanted)
        _prepare(client, stamp.parent)


def _pypi(client: Client, place: Path) -> None:
    python = place / "bin" / "python"
    _run(BIN / "uv", "venv", "--quiet", "--allow-existing", "--python", sys.executable, place)
    _run(BIN / "uv", "pip", "install", "--quiet", "--compile-bytecode", "--python", python, *client.packages)


def _npm(client: Client, place: Path) -> None:
    wanted = dict(package.rsplit("@", 1) for package in client.packages)
    (place / "package.json").write_text(json.dumps({"private": True, "dependencies": wanted}))
    # No scripts: they fetch binaries from elsewhere, which nothing here needs.
    _run(BIN / "npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--silent", cwd=place)


def _prepare(client: Client, place: Path) -> None:
    """What a change of ours must reach, too."""
    if client.program.endswith(".mjs"):
        shutil.copy(PROGRAMS / client.program, place)  # Node looks for packages beside the program
    if client.name == "go":
        _run(place / "bin" / "go", "build", "-o", place / "ask", ROOT / "examples" / "go" / "ask.go")


def _run(*command: str | Path, cwd: Path | None = None) -> None:
    subprocess.run([str(word) for word in command], check=True, cwd=cwd, env=environment())


if __name__ == "__main__":
    main()
