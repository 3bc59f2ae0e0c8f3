"""`make demo`: ends by itself, and well; shows what a newcomer should see; leaves nothing behind."""

from __future__ import annotations

import contextlib
import re
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import running
from tests.running import Process, until

COMMAND = [sys.executable, "-W", "error", "-m", "examples.demo"]


@dataclass
class Place:
    """Where a demo works and what it says."""

    temporary: Path
    logs: Path

    @contextlib.contextmanager
    def demo(self) -> Iterator[Process]:
        """A demo with this place for its temporary files."""
        process = running.start("demo", COMMAND, {"TMPDIR": str(self.temporary)}, self.logs)
        try:
            yield process
        finally:
            process.stop(seconds=40)

    def left_behind(self) -> list[Path]:
        """Its files that are still there."""
        return list(self.temporary.iterdir())

    def still_running(self) -> list[Path]:
        """Processes that inherited our TMPDIR; none where there is no /proc."""
        found = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):  # another user's, or it has ended meanwhile
                if str(self.temporary).encode() in path.read_bytes():
                    found.append(path)
        return found


@contextlib.contextmanager
def make_place() -> Iterator[Place]:
    """A place with a short path: a socket's name must fit behind it."""
    with running.short_directory() as temporary, running.short_directory() as logs:
        yield Place(temporary, logs)


@pytest.fixture
def place() -> Iterator[Place]:
    """A place of the test's own."""
    with make_place() as made:
        yield made


@dataclass
class Finished:
    """A demo that was left alone until its end."""

    text: str
    code: int
    seconds: float
    left_behind: list[Path]
    still_running: list[Path]


@pytest.fixture(scope="module")
def finished() -> Iterator[Finished]:
    """One demo for all that look at its end."""
    with make_place() as place:
        began = time.monotonic()
        with place.demo() as process:
            code = process.popen.wait(90)
        seconds = time.monotonic() - began
        yield Finished(process.text(), code, seconds, place.left_behind(), place.still_running())


def test_it_ends_by_itself_with_every_answer_right(finished: Finished) -> None:
    assert finished.code == 0, finished.text
    assert "300 of 300 answers are right" in finished.text
    assert "WRONG" not in finished.text
    assert finished.seconds < 60


def test_it_shows_answers_batches_and_stats(finished: Finished) -> None:
    assert "300/300" in finished.text
    assert "→ echo:What is 0 + 0?" in finished.text
    batches = re.findall(r"batch_\w+ +(\d+) requests   (\S+)", finished.text)
    assert sum(int(count) for count, _ in batches) == 300
    assert {model for _, model in batches} == {"gpt-6-luna", "gpt-6-sol", "text-embedding-3-small"}
    assert 3 <= len(batches) <= 30
    assert re.search(r"requests +300 +300 +0 ", finished.text)
    assert re.search(rf"batches +{len(batches)} +{len(batches)} +0 ", finished.text)


def test_it_ends_with_what_was_saved_and_where_to_look(finished: Finished) -> None:
    saved = re.search(r"Saved: \$([\d.]+)\. [\d,]+ tokens at \$([\d.]+) instead of \$([\d.]+)", finished.text)
    assert saved
    amount, paid, standard = map(float, saved.groups())
    assert amount > 0
    assert abs(standard - paid - amount) < 2e-4  # each is rounded
    assert "http://127.0.0.1:3030/dashboard" in finished.text.splitlines()[-1]


def test_it_leaves_no_logs_no_files_and_no_processes(finished: Finished) -> None:
    assert "INFO" not in finished.text
    assert not finished.left_behind
    assert not finished.still_running


def test_ctrl_c_midway_takes_everything_down(place: Place) -> None:
    with place.demo() as process:
        until(lambda: "0/300" in process.text(), "the demo asks", 60)
        assert place.still_running()

        process.stop(signal.SIGINT, seconds=40)

    assert process.popen.returncode == 130
    assert "Traceback" not in process.text()
    assert not place.left_behind()
    assert not place.still_running()


def test_a_stack_that_does_not_start_is_explained_and_its_logs_are_kept(place: Place) -> None:
    place.temporary = place.temporary / ("deep" * 25)  # too long for the name of a socket
    place.temporary.mkdir()

    with place.demo() as process:
        assert process.popen.wait(60) == 1

    assert "LLM_PROXY_DATA_DIR must be shorter" in process.text()
    [kept] = place.left_behind()
    assert f"What its processes said: {kept}/*.log" in process.text()
    assert (kept / "llm-proxy.log").exists()
