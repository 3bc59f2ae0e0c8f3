"""Commands of a Docker engine, and what was paid in it."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from typing import Any

from tests.running import ROOT

#: What examples/many and the simulator are in, built by docker-compose.yml.
TOOLS = "llm-proxy-tools"


def docker(*words: str, **variables: str) -> str:
    """Run a command in the checkout; its output. Raises: CalledProcessError."""
    return subprocess.run(
        ["docker", *words], cwd=ROOT, env=os.environ | variables, check=True, stdout=subprocess.PIPE, text=True
    ).stdout


def remove(*containers: str) -> None:
    """Remove what is there, with its unnamed volumes."""
    docker("rm", "--force", "--volumes", *containers)


def billed(container: str) -> dict[str, Any]:
    """The ledger of a simulator."""
    source = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:9100/_control/stats').read().decode())"
    ledger: dict[str, Any] = json.loads(docker("exec", container, "python", "-c", source))["billed"]
    return ledger


def seconds(action: Callable[[], object]) -> float:
    """How long something takes."""
    began = time.monotonic()
    action()
    return round(time.monotonic() - began, 1)
