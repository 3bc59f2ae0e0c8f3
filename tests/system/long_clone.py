"""README's first commands in a fresh clone with an empty home, to the first answer: `make fresh`.

What it takes is printed; README has the figure. Most of it is pip.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import running
from tests.ports import free_port
from tests.running import ROOT, Process, until
from tests.simulator.server import Simulator
from tests.system.conftest import is_ready
from tests.system.test_docs import commands

pytestmark = pytest.mark.timeout(900)
START_SECONDS = 600.0
BRISK = {"LLM_PROXY_MAX_HOLD_SECONDS": "0.3", "LLM_PROXY_POLL_MIN_SECONDS": "0.2"}


@pytest.fixture
def clone() -> Iterator[Path]:
    """A clone of the last commit, beside an empty home."""
    with running.short_directory() as place:
        (place / "home").mkdir()
        subprocess.run(["git", "clone", "--quiet", str(ROOT), "llm-proxy"], cwd=place, check=True)
        yield place / "llm-proxy"


def clean(clone: Path, **variables: str) -> dict[str, str]:
    """An environment that has Python, make and pip's registry, and nothing of this checkout."""
    kept = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "LANG", "LC_"))}
    path = [part for part in os.environ["PATH"].split(os.pathsep) if ".venv" not in part]
    return {**kept, "HOME": str(clone.parent / "home"), "PATH": os.pathsep.join(path), **variables}


@contextlib.contextmanager
def started(clone: Path, script: str, variables: dict[str, str]) -> Iterator[Process]:
    """A shell's script for one `with`, ended as Ctrl-C ends it: the whole group is told."""
    log = clone.parent / "log"
    with log.open("wb") as output:
        popen = subprocess.Popen(
            ["sh", "-ec", script], cwd=clone, env=clean(clone, **variables), stdout=output, stderr=output,
            start_new_session=True,
        )  # fmt: skip
    process = Process(script, popen, log)
    try:
        yield process
        assert "Traceback" not in process.text(), process.text()
        os.killpg(popen.pid, signal.SIGINT)
        popen.wait(40)
    finally:
        process.kill()


def first_answer(clone: Path, script: str, upstream: Simulator) -> None:
    """Run a script until it serves and has answered README's first question; print how long both took."""
    port = free_port()
    variables = {"PORT": str(port), "LLM_PROXY_UPSTREAM": upstream.url, **BRISK}
    began = time.monotonic()
    with started(clone, script, variables) as process:
        until(lambda: is_ready(port) or process.popen.poll() is not None, "it serves", START_SECONDS)
        assert process.popen.poll() is None, process.text()
        serves = time.monotonic() - began
        settings = {"OPENAI_BASE_URL": f"http://127.0.0.1:{port}/v1", "OPENAI_API_KEY": f"sk-{port}"}
        done = subprocess.run(
            ["sh", "examples/curl/ask.sh"], cwd=clone, env=clean(clone, **settings), capture_output=True, text=True
        )
        answered = time.monotonic() - began
        print(f"\n{script!r}: serves after {serves:.0f} s, first answer after {answered:.0f} s")  # noqa: T201
    assert "echo:Why is the sky blue?" in done.stdout, done.stderr


def test_make_run_answers(clone: Path, shared_upstream: Simulator) -> None:
    first_answer(clone, "exec make run", shared_upstream)


def test_make_demo_ends_well(clone: Path) -> None:
    began = time.monotonic()
    done = subprocess.run(["make", "demo"], cwd=clone, env=clean(clone), capture_output=True, text=True)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "300 of 300 answers are right" in done.stdout
    print(f"\n'make demo': ends after {time.monotonic() - began:.0f} s")  # noqa: T201


def test_without_make_it_answers(clone: Path, shared_upstream: Simulator) -> None:
    written = commands("README.md")
    begin = written.index("python3 -m venv .venv")
    *before, last = written[begin : begin + 3]

    first_answer(clone, "\n".join([*before, f"exec {last}"]), shared_upstream)
