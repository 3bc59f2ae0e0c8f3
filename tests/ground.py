"""Ground to do harm on: a Redis, an upstream and a stack of their own, and what dies is started again.

Fault matrix, chaos, soak and the tests that cut files stand on it.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tests import running
from tests.running import RedisServer, Stack
from tests.simulator.server import Simulator, serve

#: An upstream whose batches take half a second.
QUICK = {"validate_delay": 0.1, "batch_delay": 0.2, "finalize_delay": 0.1}
#: The project's own app and front, only less patient: see tests/faults/hasty.py.
HASTY_APP, HASTY_WSGI = "tests.chaos.worker_app", "tests.chaos.web_app:create_app()"


@dataclass
class Ground:
    """What was opened together; `kept` starts again what dies, as a supervisor would."""

    redis: RedisServer
    upstream: Simulator
    stack: Stack
    _starting: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def start_dead(self) -> None:
        """Start what has died, and wait for nobody: one that dies again at once must not hold up the others."""
        with self._starting:  # never twice the same
            for name in self.stack.dead():
                self.stack.start(name, wait=False)

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """Start again what dies, for one `with`."""
        done = threading.Event()

        def keep() -> None:
            while not done.wait(0.05):
                self.start_dead()

        keeper = threading.Thread(target=keep, daemon=True)
        keeper.start()
        try:
            yield
        finally:
            done.set()
            keeper.join()


@contextlib.contextmanager
def opened(
    *,
    app: str = HASTY_APP,
    wsgi: str = HASTY_WSGI,
    extra: tuple[str, ...] = (),
    upstream: dict[str, Any] | None = None,
    **variables: str,
) -> Iterator[Ground]:
    """A Redis, an upstream and a stack for one `with`; `variables` are the stack's environment."""
    with (
        running.redis_server() as server,
        serve(**(QUICK if upstream is None else upstream)) as simulator,
        running.running_stack(
            server.url, simulator.url, app=app, wsgi=wsgi, extra=extra, only=(), launch=running.quick, **variables
        ) as stack,
    ):
        yield Ground(server, simulator, stack)


def used(client: Any) -> int:
    """How many answers are in the sums of tokens."""
    days = [client.hgetall(key) for key in client.scan_iter("lp:usage:*", count=1000)]
    return sum(int(n) for day in days for field, n in day.items() if field.startswith(b"requests\t"))
