"""Runs a client's program before a stack, and counts: attempts at the front, lines at the upstream."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.compat.clients import CLIENTS, PROGRAMS, Client
from tests.running import Stack, environment, until
from tests.simulator.server import Simulator

#: The front keeps lines of its access log for a quarter of this.
LOG_SECONDS = 1.0
LONGEST_SECONDS = 280


@dataclass(frozen=True)
class Told:
    """What a program told, and what it took.

    Attributes:
        calls: call -> `answer`, or `error` and `status`.
        attempts: requests that reached the front.
        paid: lines that the upstream was sent under this key, so far.
    """

    calls: dict[str, dict[str, Any]]
    attempts: int
    paid: int


@dataclass(frozen=True)
class Asking:
    """A stack, the upstream behind it, and a home for programs that write to theirs."""

    stack: Stack
    upstream: Simulator
    home: Path

    def run(self, client: Client, key: str, calls: list[str], timeout_seconds: float = 0) -> Told:
        """Make calls by a client's program; a time-out of 0 leaves it its own."""
        before = self._answered()
        done = subprocess.run(
            [*client.command(), f"{self.stack.url}/v1", str(timeout_seconds), *calls],
            cwd=PROGRAMS,
            env=environment(
                OPENAI_API_KEY=key,
                HOME=str(self.home),
                CLIENT=str(CLIENTS / client.name),
                NO_COLOR="1",
                LITELLM_LOCAL_MODEL_COST_MAP="True",  # else it looks for prices elsewhere when it is imported
            ),
            capture_output=True,
            text=True,
            timeout=LONGEST_SECONDS,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        told: dict[str, dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
        until(lambda: self._answered() > before, "the front has written down what it answered")
        time.sleep(LOG_SECONDS)
        return Told(told, self._answered() - before, self.paid(key))

    def paid(self, key: str) -> int:
        """Lines of this key that the upstream was sent; nothing went at full price."""
        stats = self.upstream.stats()
        assert stats["sync_requests"] == 0
        name = hashlib.sha256(key.encode()).hexdigest()[:8]
        return sum(int(batch["lines"]) for batch in stats["batches"] if batch["key"] == name)

    def _answered(self) -> int:
        """Attempts that have ended, by the front's access log."""
        return len(re.findall(r"logger=web\.access .*method=POST", self.stack.processes["web"].text()))
