"""Everything that there is to see of a running llm-proxy, read at once, whoever shows it.

One script and one pipeline, whatever is queued and in flight: at most 100 groups and 1,000 batches are described.
Nothing in it is a key or a prompt: a credential shows as the beginning of its reference.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any, Final

from gevent.lock import BoundedSemaphore

from tasks import connections, history, holding, spending, stats, store

GROUPS: Final = 100
BATCHES: Final = 1000
#: As many viewers as there may be, Redis is asked so often by each process.
FRESH_SECONDS: Final = 1.0
STATUS_CLASSES: Final = ("2xx", "3xx", "4xx", "5xx")

_seen: tuple[float, dict[str, Any]] | None = None
_reading = BoundedSemaphore()


def recent() -> dict[str, Any]:
    """What `read` gave within the last second; for pages that many may look at."""
    global _seen
    with _reading:  # those who come while one reads get what it has read
        if _seen is None or time.monotonic() - _seen[0] > FRESH_SECONDS:
            found = read()
            _seen = (time.monotonic(), found)
        return _seen[1]


def read() -> dict[str, Any]:
    """The figures.

    Raises:
        StoreUnavailable, RedisError: Redis is away.
    """
    now = store.now_ms()
    queued, group_count, groups, batch_count, batches = store.run("overview", GROUPS, BATCHES)
    pipeline = connections.client().pipeline(transaction=False)
    for name in ("stats", "latency:requests", "latency:batches", "waiting", "ticks"):
        pipeline.hgetall(f"{store.PREFIX}{name}")
    pipeline.lrange(f"{store.PREFIX}failures", 0, -1)
    for name in ("groups", "batches"):
        pipeline.zrange(f"{store.PREFIX}{name}", 0, 0, withscores=True)
    pipeline.exists(f"{store.PREFIX}paused")
    pipeline.llen("sync")
    pipeline.info("memory")
    raw, requests, batch_times, waiting, ticks, failures, oldest, overdue, paused, sync, memory = pipeline.execute()
    counters = {name.decode(): int(value) for name, value in raw.items()}
    figures = stats.figures(counters, requests, batch_times)
    rows = spending.rows(now)
    today = datetime.fromtimestamp(now / 1000, UTC).date()
    median = figures["batches"]["p50_time_ms"]
    described = sorted((_batch(line, now, median) for line in batches), key=lambda batch: -batch["age_seconds"])
    return {
        **figures,
        "at_ms": now,
        "waiting": holding.total(waiting, now),
        "paused": bool(paused),
        "queued": {
            "requests": queued,
            "synchronous": sync,
            "groups": group_count,
            "by_group": [_group(group, now) for group in groups],
        },
        "in_flight": {
            "batches": batch_count,
            "requests": sum(batch["total"] for batch in described),
            "by_batch": described,
        },
        "settled": {name: counters.get(f"status_{name}", 0) for name in STATUS_CLASSES},
        "heartbeats": counters.get("heartbeats", 0),
        "attached": counters.get("attached", 0),
        "lag": {
            "collect_seconds": _age(ticks.get(b"collect"), now),
            "sweep_seconds": _age(ticks.get(b"sweep"), now),
            "oldest_queued_seconds": _age(oldest[0][1] if oldest else None, now) or 0.0,
            "most_overdue_seconds": _age(overdue[0][1] if overdue else None, now) or 0.0,
        },
        "redis": _memory(memory),
        "usage": {
            "days": spending.DAYS,
            **spending.total(rows),
            "today": spending.total(row for row in rows if row.day == today),
        },
        "failures": [_failure(entry) for entry in failures],
    }


def usage_by(name: str) -> list[dict[str, Any]]:
    """Usage of the last 30 days by model, day or credential."""
    return spending.by(name, spending.rows(store.now_ms()))


def hours() -> list[dict[str, Any]]:
    """The last hours in steps."""
    return history.series(store.now_ms())


def _age(at: Any, now_ms: int) -> float | None:
    """Seconds since a moment, 0 when it is to come, None when it never was."""
    return None if at is None else round(max(0.0, (now_ms - float(at)) / 1000), 1)


def _group(line: bytes, now_ms: int) -> dict[str, Any]:
    group, since, count, size, endpoint, credential, wait, model = line.decode(errors="replace").split("\t")
    return {
        "group": group,
        "model": model,
        "endpoint": endpoint,
        "credential": credential[: spending.CREDENTIAL_DIGITS],
        "max_wait_seconds": float(wait or 0),
        "requests": int(count),
        "bytes": max(0, int(size)),
        "age_seconds": _age(since, now_ms),
    }


def _batch(line: bytes, now_ms: int, median_ms: float) -> dict[str, Any]:
    (batch_id, state, group, count, size, claimed, submitted, uploads, failures, completed, failed, upstream_id,
     upstream_status, endpoint, credential, canceled, model) = line.decode(errors="replace").split("\t")  # fmt: skip
    total, done = int(count or 0), int(completed or 0) + int(failed or 0)
    age = _age(claimed or now_ms, now_ms) or 0.0
    return {
        "batch": batch_id,
        "upstream_id": upstream_id,
        "state": state,
        "upstream_status": upstream_status,
        "model": model,
        "endpoint": endpoint,
        "credential": credential[: spending.CREDENTIAL_DIGITS],
        "group": group,
        "total": total,
        "completed": min(total, int(completed or 0)),
        "failed": min(total, int(failed or 0)),
        "bytes": int(size or 0),
        "age_seconds": age,
        "attempt": max(1, int(uploads or 0)),
        "failures": int(failures or 0),
        "canceled": canceled == "1",
        "expected_seconds": _expected(total, done, _age(submitted or None, now_ms), age, median_ms),
    }


def _expected(total: int, done: int, running: float | None, age: float, median_ms: float) -> float | None:
    """Seconds until the end: at its own pace once that shows, else as batches usually take; None: nobody knows."""
    if running and total and 0.05 * total <= done < total:
        return round(running * (total - done) / done, 1)
    return round(median_ms / 1000 - age, 1) if median_ms / 1000 > age else None


def _failure(entry: bytes) -> dict[str, Any]:
    at, count, status, reason, lane, request_id, model = entry.decode(errors="replace").split("\t", 6)
    return {
        "at_ms": int(at),
        "count": int(count),
        "status": int(status),
        "reason": reason,
        "lane": lane,
        "request": request_id,
        "model": model,
    }


def _memory(info: dict[str, Any]) -> dict[str, Any]:
    used, most = int(info["used_memory"]), int(info.get("maxmemory") or 0)
    return {"used_bytes": used, "max_bytes": most, "used_part": round(used / most, 4) if most else None}
