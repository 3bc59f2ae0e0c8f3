"""What a running stack uses: processor time and memory by process type, commands and memory of Redis."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import psutil

from tests.running import RedisServer, Stack

LOOK_SECONDS = 0.2
KINDS = ("web", "worker-control", "worker-transfer", "worker-sync", "beat", "redis")


@dataclass
class Costs:
    """Of one `with measured(...)`.

    Attributes:
        cpu_seconds: by process type.
        memory_bytes: resident, by process type, when it began.
        peak_bytes: resident, by process type, at most.
        commands: that Redis ran, those inside scripts included.
        seconds: how long it took.
    """

    cpu_seconds: dict[str, float] = field(default_factory=dict)
    memory_bytes: dict[str, int] = field(default_factory=dict)
    peak_bytes: dict[str, int] = field(default_factory=dict)
    commands: int = 0
    seconds: float = 0.0

    @property
    def growth_bytes(self) -> dict[str, int]:
        """How much resident memory rose, by process type."""
        return {kind: peak - self.memory_bytes[kind] for kind, peak in self.peak_bytes.items()}


class Processes:
    """The processes of a stack and of its Redis, by type."""

    def __init__(self, stack: Stack, redis: RedisServer) -> None:
        assert redis.process
        roots = {
            **{name: process.popen.pid for name, process in stack.processes.items()},
            "redis": redis.process.popen.pid,
        }
        self._by_kind = {
            kind: [psutil.Process(roots[kind]), *psutil.Process(roots[kind]).children(recursive=True)]
            for kind in KINDS
            if kind in roots
        }
        self._redis = redis.client

    def pids(self, kind: str) -> list[int]:
        """Of one type, the parent first."""
        return [process.pid for process in self._by_kind[kind]]

    def cpu_seconds(self) -> dict[str, float]:
        """Used so far."""
        used = {}
        for kind, processes in self._by_kind.items():
            times = [process.cpu_times() for process in processes]
            used[kind] = sum(time.user + time.system for time in times)
        return used

    def memory_bytes(self) -> dict[str, int]:
        """Resident now."""
        return {kind: sum(p.memory_info().rss for p in processes) for kind, processes in self._by_kind.items()}

    def commands(self) -> int:
        """That Redis has run so far."""
        return int(self._redis.info("stats")["total_commands_processed"])

    @contextmanager
    def measured(self) -> Iterator[Costs]:
        """The costs of what happens in the `with`; complete when it has ended."""
        costs = Costs(memory_bytes=self.memory_bytes())
        costs.peak_bytes = dict(costs.memory_bytes)
        done = threading.Event()

        def look() -> None:
            while not done.wait(LOOK_SECONDS):
                for kind, size in self.memory_bytes().items():
                    costs.peak_bytes[kind] = max(costs.peak_bytes[kind], size)

        looker = threading.Thread(target=look, daemon=True)
        before, commands, began = self.cpu_seconds(), self.commands(), time.monotonic()
        looker.start()
        try:
            yield costs
        finally:
            done.set()
            looker.join()
            costs.seconds = time.monotonic() - began
            costs.cpu_seconds = {kind: used - before[kind] for kind, used in self.cpu_seconds().items()}
            costs.commands = self.commands() - commands
