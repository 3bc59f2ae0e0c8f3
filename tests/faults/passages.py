"""Passages and points: a step is passed, its passages are numbered, and the process dies at the one that is armed.

A point is `<before|after> [2nd |3rd ]<step>[ in <situation>]`: `before settle in delivering`,
`before 2nd DELETE /v1/files/{id} in cleaning`, `after advance creating>submitted in submitted`.

Passages are numbered for each batch or request in each scenario, up to the third. Where the same step comes again
only because time has passed, its first passage stands for all: nothing has changed since. That is so for
whatever belongs to no batch or request (ticks of collect and sweep, the reader of results, the gathers of
the front), for looks at a batch that runs, for waiting out a "create" in doubt, and for reading doubtful files again.
A command that only reads Redis has one point in all: a kill before it finds what a kill before the next change finds.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Final

DIRECTORY: Final = "LP_FAULTS_DIR"
NUMBERS: Final = ("", "2nd ", "3rd ")
#: Steps that change nothing, in Redis and at the upstream.
READS: Final = (
    "GET ", "MGET ", "HGET ", "LRANGE ", "XREAD", "XRANGE ", "XREVRANGE ", "ZRANGE ", "ZRANGEBYSCORE ", "TIME", "INFO",
    "pipeline of HGET ", "pipeline of STRLEN ",
)  # fmt: skip
#: A message that was published waits for anybody: "before lease" kills whoever has taken it.
NOT_AFTER: Final = (*READS, "publish")
BY_TIME: Final = ("in submitted", "advance creating>creating", "reads")


def is_of_interest(when: str, step: str) -> bool:
    """Whether a passage is to be told of: all are while they are recorded, else those of the armed step.

    Args:
        when: "before" or "after".
        step: the step, without its situation: finding that out takes most of a passage's time.
    """
    directory = Path(os.environ[DIRECTORY])
    try:
        point = (directory / "armed").read_text()
    except FileNotFoundError:
        return (directory / "recording").exists()
    return point.startswith(when) and step in point


def passing(when: str, step: str, subject: str) -> None:
    """Note a passage; die here if it is armed.

    Args:
        when: "before" or "after".
        step: the step and its situation.
        subject: id of the batch or request that it is about, or "".
    """
    directory = Path(os.environ[DIRECTORY])
    with _alone(directory):
        line = f"{subject}\t{when}\t{step}\n"
        with (directory / "seen").open("a+") as file:
            file.seek(0)
            earlier = sum(known.partition("\t")[2] == line for known in file)
            file.write(f"{_greenlet()}\t{line}")
        point = name(when, step, subject, earlier)
        armed = directory / "armed"
        if point is None or not armed.exists() or armed.read_text() != point:
            return
        armed.rename(directory / "fired")
        os.kill(os.getpid(), signal.SIGKILL)


def name(when: str, step: str, subject: str, earlier: int) -> str | None:
    """The point of a passage, or None: it is of no interest any more."""
    most = 1 if not subject or any(part in step for part in BY_TIME) else len(NUMBERS)
    return f"{when} {NUMBERS[earlier]}{step}" if earlier < most else None


def points(seen: str) -> set[str]:
    """The points of a whole run.

    Between two steps of one task nothing happens outside of its process, so "after" one is "before" the next:
    "after" is a point of its own only where the task takes no further step, and never after a call that only reads
    or a publication.
    """
    passed = [line.split("\t") for line in seen.splitlines()]
    last = {greenlet: n for n, (greenlet, *_) in enumerate(passed)}
    counted: dict[tuple[str, str, str], int] = {}
    found: set[str] = set()
    for n, (greenlet, subject, when, step) in enumerate(passed):
        earlier = counted.get((subject, when, step), 0)
        counted[subject, when, step] = earlier + 1
        point = name(when, step, subject, earlier)
        alone = not subject or last[greenlet] == n
        if point is not None and (when == "before" or (alone and not step.startswith(NOT_AFTER))):
            found.add(point)
    return found


_local = threading.local()  # of a greenlet, where the standard library is patched


def _greenlet() -> str:
    """A name of the running greenlet that no other ever has."""
    if not hasattr(_local, "name"):
        _local.name = uuid.uuid4().hex
    return str(_local.name)


@contextlib.contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """One process at a time: passages are counted across all of them."""
    with (directory / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
