"""The last hours, minute by minute: answers and how long they took, from hashes that settle.lua keeps per hour."""

from __future__ import annotations

import functools
import math
from typing import Any, Final

from tasks import connections, stats, store
from tasks.models import Outcome

HOURS: Final = 6
#: Minutes in one step of the plots.
STEP: Final = 5
HOUR_MS: Final = 3_600_000
GROWTH: Final = math.log(1.2)

OUTCOMES: Final = frozenset(map(str, Outcome))

Minutes = dict[int, dict[str, int]]


def series(now_ms: int) -> list[dict[str, Any]]:
    """Steps of five minutes, oldest first, the present one last: answers by outcome, and percentiles."""
    this = now_ms // HOUR_MS
    minutes: Minutes = {}
    for hour in range(this - HOURS, this + 1):
        minutes |= dict(_past(hour)) if hour < this else _read(hour)
    last = now_ms // 60_000 // STEP
    return [_step(number, minutes) for number in range(last - HOURS * 60 // STEP + 1, last + 1)]


@functools.lru_cache(maxsize=4 * HOURS)
def _past(hour: int) -> tuple[tuple[int, dict[str, int]], ...]:
    return tuple(_read(hour).items())


def _read(hour: int) -> Minutes:
    """Counts by minute since the epoch."""
    found: Minutes = {}
    for field, value in connections.client().hgetall(f"{store.PREFIX}minutes:{hour}").items():
        minute, _, name = field.decode().partition(" ")
        found.setdefault(hour * 60 + int(minute), {})[name] = int(value)
    return found


def _step(number: int, minutes: Minutes) -> dict[str, Any]:
    counts: dict[str, int] = {}
    for minute in range(number * STEP, (number + 1) * STEP):
        for name, n in minutes.get(minute, {}).items():
            counts[name] = counts.get(name, 0) + n
    buckets = sorted((int(name), n) for name, n in counts.items() if name not in OUTCOMES)
    answered = sum(n for _, n in buckets)
    ok = counts.get(Outcome.SUCCESSFUL, 0)
    return {
        "at": number * STEP * 60,
        "answers": answered,
        "failed": answered - ok,
        "p50_time_ms": stats.percentile(buckets, answered * 0.5, GROWTH),
        "p95_time_ms": stats.percentile(buckets, answered * 0.95, GROWTH),
    }
