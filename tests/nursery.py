"""Starts a stack in a fifth of the time: `forking` has imported what its processes are made of, and forks each.

A process needs a second of processor time to import Celery or Flask, and a run of the tests starts a thousand. What
runs in a fork is Celery's or gunicorn's own command line, with the arguments and the environment that the stack gives
it. What is not as in life: beat and gunicorn's arbiter find the standard library patched.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
#: Is set where lines are counted: `make coverage`.
COUNTED = "COVERAGE_PROCESS_CONFIG"
_one = threading.Lock()


@dataclass
class Forked:
    """A child of the nursery, as far as a `Process` needs one."""

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
                raise subprocess.TimeoutExpired("a forked process", timeout or 0.0)
            time.sleep(0.005)
        return code

    def send_signal(self, number: int) -> None:
        """Send it a signal; one that has ended takes none, as with `subprocess`."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)


def fork(command: list[str], environment: Mapping[str, str], log: Path) -> Forked:
    """A process that writes to `log`."""
    with _one:
        server = _server()
        assert server.stdin
        assert server.stdout
        server.stdin.write(json.dumps([command, dict(environment), str(log)]).encode() + b"\n")
        server.stdin.flush()
        return Forked(int(server.stdout.readline()))


@functools.cache
def _server() -> subprocess.Popen[bytes]:
    """One for this process, and with it."""
    made = subprocess.Popen(
        [sys.executable, "-m", "tests.forking"],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if name != COUNTED},  # its children count, each alone
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    atexit.register(made.communicate)  # it ends with its input
    return made
