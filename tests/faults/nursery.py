"""Starts workers in a tenth of the time: `forking` has imported everything once, and forks each.

A killed worker needs more than a second of processor time to import what it is made of, and the matrix kills
one in each test. What runs in a fork is Celery's own command line with the arguments that the stack gives it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from tests import running
from tests.running import Process


@dataclass
class Forked:
    """A child of the nursery, as far as `Process` needs one."""

    pid: int

    def poll(self) -> int | None:
        """None while it runs; its parent reaps it at once."""
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return -signal.SIGKILL
        return None

    def wait(self, timeout: float | None = None) -> int:
        """Wait until it has ended."""
        deadline = time.monotonic() + (timeout if timeout is not None else 60.0)
        while (code := self.poll()) is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("a forked worker", timeout or 0.0)
            time.sleep(0.005)
        return code

    def send_signal(self, number: int) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)


@dataclass
class Nursery:
    """Launches a stack's processes: workers by forking, everything else as usual."""

    _server: subprocess.Popen[bytes] | None = field(default=None)

    def launch(self, name: str, command: list[str], variables: Mapping[str, str], log_dir: Path) -> Process:
        """Start a process of the stack."""
        if "worker" not in command:
            return running.start(name, command, variables, log_dir)
        log = log_dir / f"{name}.log"
        offset = len(log.read_text(errors="replace")) if log.exists() else 0
        server = self._running(variables)
        assert server.stdin
        assert server.stdout
        server.stdin.write(json.dumps([command, str(log)]).encode() + b"\n")
        server.stdin.flush()
        child = cast("subprocess.Popen[bytes]", Forked(int(server.stdout.readline())))
        return Process(name, child, log, offset)

    def _running(self, variables: Mapping[str, str]) -> subprocess.Popen[bytes]:
        if self._server is None:
            self._server = subprocess.Popen(
                [sys.executable, "-m", "tests.faults.forking"],
                cwd=running.ROOT,
                env=running.environment(**variables),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
        return self._server

    def close(self) -> None:
        """No more children."""
        if self._server is not None:
            self._server.communicate()  # it ends with its input
