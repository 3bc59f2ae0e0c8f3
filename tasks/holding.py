"""How many clients each web process holds: reported to Redis, so that every process can say the sum.

A process that is killed stops reporting, and what it said is dropped by the others.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, Final

import gevent
import redis

from tasks import connections, store
from tasks.models import new_id

KEY: Final = f"{store.PREFIX}waiting"
REPORT_SECONDS: Final = 2.0
#: An unchanged number is reported again after so many rounds.
REPEAT: Final = 4
STALE_MS: Final = 20_000


def report_forever(count: Callable[[], int]) -> None:
    """Report a process' count; started once as a greenlet, ends with the process."""
    process, reported, rounds = new_id(), 0, 0
    while True:
        gevent.sleep(REPORT_SECONDS)
        held, rounds = count(), rounds + 1
        if held == reported and (held == 0 or rounds < REPEAT):
            continue
        with contextlib.suppress(redis.RedisError):
            report(process, held)
            reported, rounds = held, 0


def report(process: str, held: int) -> None:
    """Say what one process holds, and forget what dead ones said."""
    client, now = connections.client(), store.now_ms()
    stale = [name for name, value in client.hgetall(KEY).items() if _parse(value)[1] < now - STALE_MS]
    pipeline = client.pipeline(transaction=False)
    if stale:
        pipeline.hdel(KEY, *stale)
    if held:
        pipeline.hset(KEY, process, f"{held} {now}")
    else:
        pipeline.hdel(KEY, process)
    pipeline.execute()


def total(reports: dict[Any, bytes], now_ms: int) -> int:
    """Clients of all processes that reported lately."""
    return sum(held for held, at in map(_parse, reports.values()) if at >= now_ms - STALE_MS)


def _parse(value: bytes) -> tuple[int, int]:
    held, _, at = value.decode().partition(" ")
    return int(held), int(at)
