"""`python -m tests.chaos --seed 7 --seconds 300 --requests 5000`: a report; exits 1 on a violation."""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
from random import Random
from typing import Any

from tests import running
from tests.chaos.clients import Callers
from tests.chaos.monkey import FAULTS, Monkey
from tests.running import RedisServer, Stack
from tests.simulator.server import Simulator, serve

RESULT_TTL_SECONDS = 30
#: Every queue has three workers: its own lane's, and two that do everything; and there are two beats.
EXTRA = ("worker-all-1", "worker-all-2", "beat-2")
UNFINISHED = ("lp:batches", "lp:groups", "lp:standing", "lp:body:*", "lp:lines:*", "batch.*", "sync", "unacked")
EXPIRED = ("lp:request:*", "lp:idempotency:*", "celery-task-meta-*")


def run(seed: int, seconds: float, requests: int, mode: str) -> dict[str, Any]:
    """One run; the report names the violations."""
    random = Random(seed)
    with (
        running.redis_server() as server,
        serve(validate_delay=0.3, batch_delay=1.0, finalize_delay=0.3) as upstream,
        running.running_stack(
            server.url,
            upstream.url,
            app="tests.chaos.worker_app",
            wsgi="tests.chaos.web_app:create_app()",
            extra=EXTRA,
            LLM_PROXY_MAX_HOLD_SECONDS="0.5",
            LLM_PROXY_MAX_BATCH_REQUESTS="100",
            LLM_PROXY_RESULT_TTL_SECONDS=str(int(seconds) + 120 + RESULT_TTL_SECONDS),
            LLM_PROXY_MAX_LINE_ATTEMPTS="20",
        ) as stack,
    ):
        upstream.configure(faults=[{**fault, "seed": seed * 10 + n} for n, fault in enumerate(FAULTS)])
        callers = Callers(stack.url, mode, requests, Random(seed))
        monkey = Monkey(stack, server, upstream, random)
        harming = threading.Thread(target=monkey.run)
        harming.start()
        asking = threading.Thread(target=callers.run, args=(150, seconds * 0.9))
        asking.start()
        time.sleep(seconds)
        monkey.stop()
        harming.join()
        upstream.configure(faults=[])
        while asking.is_alive():
            monkey.start_dead()
            asking.join(0.5)
        leftovers = _leftovers(server, upstream)
        return _report(seed, mode, callers, monkey, upstream, server, stack, leftovers)


def _leftovers(server: RedisServer, upstream: Simulator) -> list[str]:
    """What is still there although everything is answered, after the sweep had its time."""
    deadline = time.monotonic() + 45
    while True:
        keys = [key.decode() for pattern in UNFINISHED for key in server.client.scan_iter(pattern, count=1000)]
        files: list[str] = upstream.stats()["files"]
        left = sorted(keys) + files
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(1)


def _report(
    seed: int,
    mode: str,
    callers: Callers,
    monkey: Monkey,
    upstream: Simulator,
    server: RedisServer,
    stack: Stack,
    leftovers: list[str],
) -> dict[str, Any]:
    client = server.client
    ledger = upstream.stats()["billed"]
    stats = {name.decode(): int(value) for name, value in client.hgetall("lp:stats").items()}
    immortal = [
        key.decode() for pattern in EXPIRED for key in client.scan_iter(pattern, count=1000) if client.ttl(key) < 0
    ]
    twice = {custom_id: n for custom_id, n in ledger["by_custom_id"].items() if n > 1}
    answered = len(callers.answers)
    report: dict[str, Any] = {
        "seed": seed,
        "mode": mode,
        "requests": callers.count,
        "answered_right": answered - len(callers.wrong),
        "wrong": callers.wrong[:20],
        "answers_given_to_two": answered - len(set(callers.answers.values())),
        "paid": ledger["requests"],
        "lines_paid_twice": twice,
        "possibly_double_paid": stats.get("possibly_double_paid", 0),
        "retries_of_callers": callers.retries,
        "deeds": dict(monkey.deeds),
        "calls": sum(upstream.stats()["calls"].values()),
        "stats": stats,
        "leftovers": leftovers[:20],
        "without_expiry": immortal[:20],
    }
    allowed = report["possibly_double_paid"] if mode == "sync" else 0
    report["violations"] = [
        name
        for name, broken in {
            f"the monkey failed: {monkey.failure}": bool(monkey.failure),
            "an answer is wrong or missing": bool(callers.wrong) or answered != callers.count,
            "one answer went to two callers": bool(report["answers_given_to_two"]),
            "something was paid twice": ledger["requests"] > callers.count + allowed or (bool(twice) and not allowed),
            "something is left over": bool(leftovers or immortal),
            "requests were counted wrongly": stats.get("requests_successful") != callers.count,
        }.items()
        if broken
    ]
    return report


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--requests", type=int, default=5000)
    parser.add_argument("--mode", choices=["batch", "sync"], default="batch")
    given = parser.parse_args()
    result = run(given.seed, given.seconds, given.requests, given.mode)
    print(json.dumps(result, indent=1))  # noqa: T201 - the report
    sys.exit(bool(result["violations"]))
