"""Commands of a Docker engine, and who asks what runs in it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Callable
from typing import Any

import requests

from tests.running import ROOT

#: What examples/many and the simulator are in, built by docker-compose.yml.
TOOLS = "llm-proxy-tools"


def docker(*words: str, **variables: str) -> str:
    """Run a command in the checkout; its output. Raises: CalledProcessError."""
    return subprocess.run(
        ["docker", *words], cwd=ROOT, env=os.environ | variables, check=True, stdout=subprocess.PIPE, text=True
    ).stdout


def answers(url: str, code: int = 200, **how: Any) -> Callable[[], bool]:
    """Whether an address answers with a status."""

    def asked() -> bool:
        with contextlib.suppress(requests.RequestException):
            return requests.get(url, timeout=3, **how).status_code == code
        return False

    return asked


def billed(container: str, port: int = 9100) -> dict[str, Any]:
    """The ledger of a simulator."""
    source = f"import urllib.request as u; print(u.urlopen('http://127.0.0.1:{port}/_control/stats').read().decode())"
    ledger: dict[str, Any] = json.loads(docker("exec", container, "python", "-c", source))["billed"]
    return ledger


def seconds(action: Callable[[], object]) -> float:
    """How long something takes."""
    began = time.monotonic()
    action()
    return round(time.monotonic() - began, 1)
