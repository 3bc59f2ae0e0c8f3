"""A stack to be measured: its own Redis, the simulator in a process of its own, the shipped settings."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests import running
from tests.bench.costs import Processes
from tests.ports import free_port
from tests.running import RedisServer, Stack
from tests.simulator.server import Simulator

DELAYS = {"validate-delay": "0.5", "batch-delay": "5", "finalize-delay": "0.5"}
#: What tests shorten, as shipped.
SHIPPED = {"LLM_PROXY_MAX_HOLD_SECONDS": "4", "LLM_PROXY_POLL_MIN_SECONDS": "1"}


@dataclass
class Bench:
    """What was opened together."""

    stack: Stack
    redis: RedisServer
    upstream: Simulator
    processes: Processes

    def accepted(self) -> int:
        """Requests accepted so far."""
        return int(self.redis.client.hget("lp:stats", "requests_total") or 0)


@contextmanager
def opened(*, batch_delay: float = 5.0, web_processes: int = 2, **variables: str) -> Iterator[Bench]:
    """A stack, warm, for one `with`."""
    port = free_port()
    options = {**DELAYS, "batch-delay": str(batch_delay), "port": str(port)}
    command = [sys.executable, "-m", "tests.simulator", *(f"--{name}={value}" for name, value in options.items())]
    settings = {**SHIPPED, "LLM_PROXY_WEB_PROCESSES": str(web_processes), **variables}
    with running.short_directory() as logs, running.redis_server() as redis:
        simulator = running.start("simulator", command, {}, logs)
        try:
            upstream = Simulator(f"http://127.0.0.1:{port}")
            running.until(lambda: simulator.text().startswith("http"), "the simulator listens")
            with running.running_stack(
                redis.url, upstream.url, extra=(), only=(), launch=running.start, **settings
            ) as stack:
                yield Bench(stack, redis, upstream, Processes(stack, redis))
        finally:
            simulator.kill()
