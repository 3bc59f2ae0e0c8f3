"""What the simulator does with greenlets besides serving: pauses, locks and work beside the requests.

All requests of a simulator run as greenlets of one thread, so plain assignments need no lock; only work that pauses
midway does.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TypeVar, cast

import gevent
from gevent.lock import RLock

T = TypeVar("T")

#: Long loops pause this often, so that other clients are answered meanwhile.
STRIDE = 256
#: More than zero: after sleep(0) gevent may come back many times before it looks at a socket.
INSTANT = 1e-6


def sleep(seconds: float) -> None:
    """Let other greenlets run for at least this long."""
    gevent.sleep(seconds)


def breathe(step: int) -> None:
    """Pause for an instant at every STRIDE-th step of a long loop."""
    if step % STRIDE == 0:
        gevent.sleep(INSTANT)


def new_lock() -> AbstractContextManager[object]:
    """A re-entrant lock between greenlets."""
    return cast("AbstractContextManager[object]", RLock())


def spawn(function: Callable[..., object], *args: object) -> None:
    """Run a function beside the requests."""
    gevent.spawn(function, *args)


def in_thread(function: Callable[..., T], *args: object) -> T:
    """Run a function that blocks in a real thread and wait for it; other greenlets go on."""
    return gevent.get_hub().threadpool.apply(function, args)
