"""Runs programs: in order, again when they die, and stops them in reverse.

Small and our own because honcho kills after 5 s, stops all when one dies and restarts nothing.
Programs run in sessions of their own, so that Ctrl-C reaches only the supervisor, and on Linux
the kernel stops them if the supervisor is killed.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import subprocess  # nosec B404 # it starts the project's own programs
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

POLL_SECONDS = 0.05
START_SECONDS = 60.0
BACK_OFF_SECONDS = (0.2, 1.0, 2.0, 5.0, 10.0)
#: A program that ran this long starts its back-off anew.
STEADY_SECONDS = 30.0
PR_SET_PDEATHSIG = 1


@dataclass
class Program:
    """One child process.

    Attributes:
        ready: says whether the next program may be started.
        stop_seconds: from SIGTERM to SIGKILL.
    """

    name: str
    command: Sequence[str]
    ready: Callable[[], bool] | None = None
    stop_seconds: float = 5.0
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    deaths: int = 0
    restart_at: float = field(default=0.0)

    def start(self) -> None:
        """Start it."""
        self.started_at = time.monotonic()
        self.process = subprocess.Popen(  # noqa: S603 - the commands are our own  # nosec B603
            self.command, start_new_session=True, preexec_fn=_die_with_parent
        )

    def poll(self) -> int | None:
        """Exit code, or None while it runs."""
        return None if self.process is None else self.process.poll()


class Supervisor:
    """Runs programs until SIGINT or SIGTERM."""

    def __init__(self, programs: Sequence[Program], *, started: str = "") -> None:
        self._programs = list(programs)
        self._started = started
        self._stopping = False

    def run(self) -> int:
        """Run; returns the exit code: 0 after a signal, 1 when a program did not get ready."""
        wake_read, wake_write = os.pipe()
        os.set_blocking(wake_write, False)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._stop)
        try:
            if not self._start_all():
                return 0 if self._stopping else 1
            if self._started:
                _say(self._started)
            while not self._stopping:
                pause = self._restart_dead()
                if select.select([wake_read], [], [], pause)[0]:
                    os.read(wake_read, 4096)
            return 0
        finally:
            self._stop_all()

    def _stop(self, *_: object) -> None:
        self._stopping = True

    def _start_all(self) -> bool:
        for program in self._programs:
            program.start()
            deadline = time.monotonic() + START_SECONDS
            while program.ready and not program.ready():
                if program.poll() is not None:
                    _say(f"{program.name} ended with code {program.poll()} before it was ready")
                    return False
                if self._stopping:
                    return False
                if time.monotonic() > deadline:
                    _say(f"{program.name} was not ready after {START_SECONDS:.0f} s")
                    return False
                time.sleep(POLL_SECONDS)
        return not self._stopping

    def _restart_dead(self) -> float | None:
        """Start again what died and has waited long enough; returns seconds until the next is due."""
        now = time.monotonic()
        pauses = []
        for program in self._programs:
            code = program.poll()
            if code is None:
                continue
            if program.process is not None and not program.restart_at:
                program.deaths = 0 if now - program.started_at > STEADY_SECONDS else program.deaths
                pause = BACK_OFF_SECONDS[min(program.deaths, len(BACK_OFF_SECONDS) - 1)]
                program.deaths += 1
                program.restart_at = now + pause
                _say(f"{program.name} ended with code {code}; it starts again in {pause} s")
            if now >= program.restart_at:
                program.restart_at = 0.0
                program.start()
            else:
                pauses.append(program.restart_at - now)
        return min(pauses, default=None)

    def _stop_all(self) -> None:
        """Last started, first stopped; neighbours whose names begin alike stop together."""
        remaining = [p for p in reversed(self._programs) if p.process is not None]
        while remaining:
            kind = remaining[0].name.partition("-")[0]
            together = [p for p in remaining if p.name.partition("-")[0] == kind]
            remaining = [p for p in remaining if p not in together]
            for program in together:
                _signal(program, signal.SIGTERM)
            deadline = time.monotonic() + max(p.stop_seconds for p in together)
            for program in together:
                assert program.process is not None  # noqa: S101 - narrowed above  # nosec B101
                try:
                    program.process.wait(max(0.0, deadline - time.monotonic()))
                except subprocess.TimeoutExpired:
                    _say(f"{program.name} did not stop in {program.stop_seconds:.0f} s and is killed")
                    _signal(program, signal.SIGKILL)
                    program.process.wait()


def _signal(program: Program, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        if program.process is not None and program.poll() is None:
            # To the whole session on SIGKILL, so that no gunicorn worker is left behind.
            (os.killpg if number is signal.SIGKILL else os.kill)(program.process.pid, number)


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _say(text: str) -> None:
    print(f"llm-proxy: {text}", file=sys.stderr, flush=True)  # noqa: T201 - the supervisor speaks to the terminal
