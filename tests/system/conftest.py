"""The stack started as a user starts it: one command."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from tests import running
from tests.running import Process, until
from tests.simulator.server import Simulator

Up = Callable[..., Process]


@contextlib.contextmanager
def ups(upstream: Simulator) -> Iterator[Up]:
    """What `up` is, for one `with`."""
    started: list[Process] = []
    with running.short_directory() as logs:

        def start(port: int, data_dir: Path, *, ready: bool = True, **variables: str) -> Process:
            settings = {
                "PORT": str(port),
                "LLM_PROXY_DATA_DIR": str(data_dir),
                "LLM_PROXY_UPSTREAM": upstream.url,
                "LLM_PROXY_MAX_HOLD_SECONDS": "0.3",
                "LLM_PROXY_POLL_MIN_SECONDS": "0.2",
                **variables,
            }
            command = [sys.executable, "-m", "tasks", "up"]
            process = running.start(f"up-{len(started)}", command, settings, logs)
            started.append(process)
            if ready:
                until(lambda: is_ready(port) or process.popen.poll() is not None, "the stack is ready", 60)
                assert process.popen.poll() is None, process.text()
            return process

        try:
            yield start
        finally:
            for process in started:
                for pid in process.children().values():
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(pid, signal.SIGKILL)
                process.kill()


@pytest.fixture
def up(shared_upstream: Simulator) -> Iterator[Up]:
    """Start `python -m tasks up`, which is what `make run` runs, and stop what is left of it."""
    with ups(shared_upstream) as start:
        yield start


def is_ready(port: int) -> bool:
    """Whether /readyz says so."""
    with contextlib.suppress(requests.RequestException):
        return requests.get(f"http://127.0.0.1:{port}/readyz", timeout=5).ok
    return False
