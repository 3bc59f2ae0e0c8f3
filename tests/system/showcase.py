"""States of the dashboard, written into Redis as the scripts leave them: hours and weeks cannot be waited for."""

from __future__ import annotations

import math
import random
import time
from typing import Any

HOST = "api.openai.com"
CHAT, RESPONSES, EMBEDDINGS = "/v1/chat/completions", "/v1/responses", "/v1/embeddings"
#: Model, endpoint, share of the requests, tokens in and out of one.
MODELS = (
    ("gpt-6.1-sol", CHAT, 0.30, 1900, 420),
    ("gpt-6-luna", CHAT, 0.44, 850, 160),
    ("gpt-6.1-terra", RESPONSES, 0.16, 3100, 700),
    ("text-embedding-3-small", EMBEDDINGS, 0.08, 320, 0),
    ("llama-4-local", CHAT, 0.02, 900, 200),
)


def empty(redis: Any) -> None:
    """A stack that has just been started."""
    redis.flushall()
    tick(redis, 0.4, 12)


def busy(redis: Any) -> None:
    """An evaluation is under way, after weeks of others."""
    redis.flushall()
    dice = random.Random(7)
    tick(redis, 0.3, 9)
    _spend(redis, dice)
    _hours(redis, dice, failed=0.004)
    _counters(redis, successful=418_204, failed=1_310, synthesized=12)
    now = _now()
    shapes = [(1000, 941, 0, 512), (1000, 655, 2, 337), (1000, 420, 0, 251), (640, 118, 0, 122), (1000, 30, 0, 64)]
    for number, (total, completed, failed, age) in enumerate(shapes):
        model, endpoint, *_ = MODELS[number % 4]
        _batch(redis, number, now, model, endpoint, total, completed, failed, age)
    _batch(redis, 7, now, MODELS[1][0], CHAT, 1000, 0, 0, 7, status="validating")
    _batch(redis, 8, now, MODELS[0][0], CHAT, 212, 0, 0, 1, state="uploading", status="")
    for model, endpoint, _, size, _ in MODELS[:3]:
        _queue(
            redis,
            f"{model}{endpoint}",
            model,
            endpoint,
            dice.randrange(40, 380),
            size * 4,
            now - dice.randrange(400, 3600),
        )
    redis.hset("lp:waiting", "web-1", f"3214 {now}")
    redis.hset("lp:waiting", "web-2", f"3187 {now}")
    _fail(redis, now - 840_000, 3, 400, "context_length_exceeded", "gpt-6-luna")


def failing(redis: Any) -> None:
    """The upstream refuses, a worker has died, and Redis is filling up."""
    busy(redis)
    dice = random.Random(11)
    now = _now()
    redis.delete("lp:failures", *redis.keys("lp:minutes:*"))
    _hours(redis, dice, failed=0.004, failing_minutes=45)
    tick(redis, 94, 140)
    redis.hset("lp:stats", mapping={"possibly_double_paid": 2, "requests_failed": 9_120, "requests_requeued": 4_410})
    redis.zadd("lp:batches", {f"{1:032x}": now - 185_000})
    redis.hset(f"lp:batch:{1:032x}", mapping={"failures": 6, "progress_failed": 210})
    redis.hset(f"lp:batch:{2:032x}", mapping={"upstream_status": "cancelling", "canceled": 1})
    kinds = [
        (5, 412, 429, "insufficient_quota", "gpt-6.1-sol"),
        (48, 1000, 429, "insufficient_quota", "gpt-6.1-sol"),
        (130, 96, 502, "result_missing", "gpt-6-luna"),
        (190, 14, 400, "context_length_exceeded", "gpt-6.1-terra"),
        (1260, 37, 504, "batch_deadline", "gpt-6-luna"),
        (2400, 1, 404, "model_not_found", "gpt-7"),
    ]
    for ago, count, status, reason, model in reversed(kinds):
        _fail(redis, now - ago * 1000, count, status, reason, model)


def crowd(redis: Any, number: int = 1000) -> None:
    """So many batches, and 100 groups."""
    busy(redis)
    now = _now()
    for n in range(number - redis.zcard("lp:batches")):
        _batch(redis, 100 + n, now, f"model-{n % 40}", CHAT, 1000, n % 1000, n % 7, 60 + n)
    for n in range(100):
        _queue(redis, f"crowd{n}", f"model-{n}", CHAT, 3, 1000, now - n * 100)


def batch(redis: Any, model: str) -> None:
    """One batch of a model."""
    _batch(redis, 1, _now(), model, CHAT, 10, 5, 0, 30)


def _now() -> int:
    return int(time.time() * 1000)


def tick(redis: Any, collect: float, sweep: float) -> None:
    """The clocks ticked so many seconds ago."""
    redis.hset("lp:ticks", mapping={"collect": _now() - int(collect * 1000), "sweep": _now() - int(sweep * 1000)})


def _spend(redis: Any, dice: random.Random) -> None:
    today = _now() // 86_400_000
    for day in range(today - 29, today + 1):
        weekday = (day + 4) % 7
        volume = (
            (0.25 if weekday in (0, 6) else 1.0) * (0.6 + 0.02 * (day - today + 29)) * dice.uniform(0.6, 1.4) * 26_000
        )
        if dice.random() < 0.1:
            continue
        for model, endpoint, share, asked, answered in MODELS:
            n = int(volume * share)
            tier = "standard" if dice.random() < 0.06 else "batch"
            row = "\t".join((HOST, endpoint, tier, "3f9c02ab", model))
            counts = {"requests": n, "input": n * asked, "cached": n * asked // 9, "output": n * answered}
            redis.hset(f"lp:usage:{day}", mapping={f"{name}\t{row}": value for name, value in counts.items() if value})


def _hours(redis: Any, dice: random.Random, *, failed: float, failing_minutes: int = 0) -> None:
    this = _now() // 60_000
    for minute in range(this - 359, this + 1):
        back = this - minute
        level = 42 + 30 * math.sin(back / 37) + 24 * math.sin(back / 11)
        n = int(max(0, level) * dice.uniform(0.5, 1.5))
        if n == 0 or 150 < back < 178:
            continue
        bad = sum(dice.random() < (0.7 if back < failing_minutes else failed) for _ in range(n))
        counts: dict[str, int] = {"successful": n - bad, "failed": bad}
        for _ in range(n):
            ms = dice.lognormvariate(math.log(190_000 + 120_000 * math.sin(back / 50)), 0.45)
            bucket = str(math.floor(math.log(ms + 1) / math.log(1.2)))
            counts[bucket] = counts.get(bucket, 0) + 1
        redis.hset(
            f"lp:minutes:{minute // 60}",
            mapping={f"{minute % 60} {name}": value for name, value in counts.items() if value},
        )


def _counters(redis: Any, *, successful: int, failed: int, synthesized: int) -> None:
    total = successful + failed + synthesized
    redis.hset(
        "lp:stats",
        mapping={
            "requests_total": total + 6_900, "requests_successful": successful, "requests_failed": failed,
            "requests_synthesized": synthesized, "requests_ms": total * 214_000, "requests_requeued": 1_204,
            "batches_total": 611, "batches_successful": 598, "batches_failed": 6, "batches_ms": 604 * 190_000,
            "fallbacks_flex": 88, "status_2xx": successful, "status_4xx": failed, "status_5xx": synthesized,
        },
    )  # fmt: skip
    for name, middle in (("requests", 205_000), ("batches", 180_000)):
        for step in range(-30, 31):
            bucket = math.floor(math.log(middle + 1) / math.log(1.03)) + step
            redis.hset(f"lp:latency:{name}", str(bucket), int(10_000 * math.exp(-((step / 14) ** 2))))


def _batch(
    redis: Any, number: int, now: int, model: str, endpoint: str, total: int, completed: int, failed: int, age: int,
    *, state: str = "submitted", status: str = "in_progress",
) -> None:  # fmt: skip
    batch = f"{number:032x}"
    redis.hset(
        f"lp:batch:{batch}",
        mapping={
            "state": state, "group": "g", "count": total, "bytes": total * 5000, "claimed": now - age * 1000,
            "submitted": now - age * 1000 + 900 if status else 0, "progress_completed": completed, "uploads": 1,
            "progress_failed": failed, "upstream_id": f"batch_68f0{number:04x}c1e8819" if status else "",
            "upstream_status": status, "model": model, "endpoint": endpoint, "credential": "3f9c02ab" * 3,
        },
    )  # fmt: skip
    redis.zadd("lp:batches", {batch: now + 30_000})


def _queue(redis: Any, group: str, model: str, endpoint: str, count: int, size: int, since: int) -> None:
    redis.rpush(f"batch.{group}", *["-"] * count)
    redis.zadd("lp:groups", {group: since})
    redis.hset(
        f"lp:group:{group}",
        mapping={"queued_bytes": count * size, "model": model, "endpoint": endpoint, "credential": "3f9c02ab" * 3},
    )


def _fail(redis: Any, at: int, count: int, status: int, reason: str, model: str) -> None:
    request = f"{random.Random(at).getrandbits(128):032x}"
    redis.lpush("lp:failures", "\t".join(map(str, (at, count, status, reason, "batch", request, model))))
