"""How many clients each web process holds, and has kept alive: told to Redis, so that every process can say the sum.

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


def report_forever(held: Callable[[], int], kept_alive: Callable[[], int]) -> None:
    """Report a process' counts, of those held now and of all that were ever sent a sign of life.

    Started once as a greenlet, ends with the process.
    """
    process, before, told, rounds = new_id(), 0, 0, 0
    while True:
        gevent.sleep(REPORT_SECONDS)
        now, alive, rounds = held(), kept_alive(), rounds + 1
        if now == before and alive == told and (now == 0 or rounds < REPEAT):
            continue
        with contextlib.suppress(redis.RedisError):
            report(process, now, alive - told)
            before, told, rounds = now, alive, 0


def report(process: str, held: int, kept_alive: int = 0) -> None:
    """Say what one process holds and what it has done since the last time, and forget what dead ones held."""
    client, now = connections.client(), store.now_ms()
    stale = [name for name, value in client.hgetall(KEY).items() if _parse(value)[1] < now - STALE_MS]
    pipeline = client.pipeline(transaction=False)
    if stale:
        pipeline.hdel(KEY, *stale)
    if held:
        pipeline.hset(KEY, process, f"{held} {now}")
    else:
        pipeline.hdel(KEY, process)
    if kept_alive:
        pipeline.hincrby(f"{store.PREFIX}stats", "heartbeats", kept_alive)
    pipeline.execute()


def total(reports: dict[Any, bytes], now_ms: int) -> int:
    """Clients of all processes that reported lately."""
    return sum(held for held, at in map(_parse, reports.values()) if at >= now_ms - STALE_MS)


def _parse(value: bytes) -> tuple[int, int]:
    held, _, at = value.decode().partition(" ")
    return int(held), int(at)
