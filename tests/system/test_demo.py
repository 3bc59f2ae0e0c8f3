"""`make demo`: ends by itself, and well; shows what a newcomer should see; leaves nothing behind."""

from __future__ import annotations

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

    def start(self) -> Process:
        """Start the demo with this place for its temporary files."""
        return running.start("demo", COMMAND, {"TMPDIR": str(self.temporary)}, self.logs)

    def left_behind(self) -> list[Path]:
        """Its files that are still there."""
        return list(self.temporary.iterdir())


@pytest.fixture(scope="module")
def places() -> Iterator[Path]:
    """A short path: a socket's name must fit behind it."""
    with running.short_directory() as directory:
        yield directory


@pytest.fixture
def place(places: Path, request: pytest.FixtureRequest) -> Place:
    """A place of the test's own."""
    return make_place(places / request.node.name[-8:])


def make_place(directory: Path) -> Place:
    made = Place(directory / "tmp", directory / "logs")
    made.temporary.mkdir(parents=True)
    made.logs.mkdir()
    return made


@dataclass
class Finished:
    """A demo that was left alone until its end."""

    text: str
    code: int
    seconds: float
    left_behind: list[Path]


@pytest.fixture(scope="module")
def finished(places: Path) -> Finished:
    """One demo for all that look at its end."""
    place = make_place(places / "whole")
    began = time.monotonic()
    process = place.start()
    try:
        code = process.popen.wait(90)
    finally:
        process.kill()
    return Finished(process.text(), code, time.monotonic() - began, place.left_behind())


def test_it_ends_by_itself_with_every_answer_right(finished: Finished) -> None:
    assert finished.code == 0, finished.text
    assert "300 of 300 answers are right" in finished.text
    assert "WRONG" not in finished.text
    assert finished.seconds < 40


def test_it_shows_answers_batches_and_stats(finished: Finished) -> None:
    assert "300/300" in finished.text
    assert "→ echo:What is 0 + 0?" in finished.text
    batches = re.findall(r"batch_\w+ +(\d+) requests   (\S+)", finished.text)
    assert sum(int(count) for count, _ in batches) == 300
    assert {model for _, model in batches} == {"gpt-6-luna", "gpt-6-sol", "text-embedding-3-small"}
    assert 3 <= len(batches) <= 15
    assert re.search(r"requests +300 +300 +0 ", finished.text)
    assert re.search(rf"batches +{len(batches)} +{len(batches)} +0 ", finished.text)


def test_it_says_nothing_of_logs_and_leaves_no_files(finished: Finished) -> None:
    assert "INFO" not in finished.text
    assert not finished.left_behind


def test_ctrl_c_midway_takes_everything_down(place: Place) -> None:
    process = place.start()
    until(lambda: "0/300" in process.text(), "the demo asks", 60)

    process.stop(signal.SIGINT, seconds=40)

    assert process.popen.returncode == 130
    assert "Traceback" not in process.text()
    assert not place.left_behind()
    assert not [line for line in command_lines() if str(place.temporary) in line]


def test_a_stack_that_does_not_start_is_explained_and_its_logs_are_kept(place: Place) -> None:
    place.temporary = place.temporary / ("deep" * 25)  # too long for the name of a socket
    place.temporary.mkdir()

    process = place.start()

    assert process.popen.wait(60) == 1
    assert "LLM_PROXY_DATA_DIR must be shorter" in process.text()
    [kept] = place.left_behind()
    assert f"What its processes said: {kept}/*.log" in process.text()
    assert (kept / "llm-proxy.log").exists()


def command_lines() -> list[str]:
    """Of all processes that run here; empty where there is no /proc."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(path.read_text(errors="replace"))
        except OSError:  # it has ended meanwhile
            continue
    return found
