"""`python -m tests.soak --requests 100000`: Redis and upstream before and after; exits 1 when something stayed."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from dataclasses import dataclass
from random import Random
from typing import Any

from tests import ground
from tests.chaos.clients import Callers
from tests.ground import Ground

RESULT_TTL_SECONDS = 5
#: The reply's lifetime, then the time after which the stream is trimmed, and some sweeps.
EXPIRY_SECONDS = RESULT_TTL_SECONDS + 70
WARM_UP = 200
#: Kept for 7 days, for people who ask: one record for each batch, of at most this size.
STAYING = "batch"
RECORD_BYTES = 1500
#: Growth of Redis' memory beside the records that is no leak: buffers of connections, tables that have grown.
ALLOWED_BYTES = 1_500_000


@dataclass
class Rest:
    """What is in Redis and at the upstream while nothing is asked."""

    keys: Counter[str]  # by kind
    immortal: Counter[str]  # of these, the ones without an expiry
    memory: int
    stream: int
    batches: int
    files: int
    settled: int

    @classmethod
    def of(cls, opened: Ground) -> Rest:
        """Look at everything."""
        client = opened.redis.client
        keys, immortal = Counter[str](), Counter[str]()
        for key in client.scan_iter(count=10_000):
            kind = _kind(key.decode())
            keys[kind] += 1
            immortal[kind] += client.ttl(key) < 0
        stats = {name.decode(): int(value) for name, value in client.hgetall("lp:stats").items()}
        return cls(
            keys=keys,
            immortal=+immortal,
            memory=client.info("memory")["used_memory"],
            stream=client.xlen("lp:settled"),
            batches=stats["batches_total"],
            files=opened.upstream.stats()["files_live"],
            settled=stats["requests_successful"],
        )


def _kind(name: str) -> str:
    name = name.removeprefix("lp:")
    return "kombu's" if name.startswith("_kombu") else name.split(":")[0]


def run(requests: int, at_once: int) -> dict[str, Any]:
    """One run; the report names the violations."""
    with ground.opened(LLM_PROXY_RESULT_TTL_SECONDS=str(RESULT_TTL_SECONDS)) as opened:
        Callers(opened.stack.url, "batch", WARM_UP, Random(0)).run(WARM_UP, 0)
        time.sleep(EXPIRY_SECONDS)
        before = Rest.of(opened)
        began = time.monotonic()
        callers = Callers(opened.stack.url, "batch", requests, Random(1))
        callers.run(at_once, 0)
        took = time.monotonic() - began
        peak = opened.redis.client.info("memory")["used_memory_peak"]
        time.sleep(EXPIRY_SECONDS)
        after = Rest.of(opened)
        paid = opened.upstream.stats()["billed"]["requests"]
    batches = after.batches - before.batches
    violations = {
        "an answer is wrong or missing": bool(callers.wrong) or len(callers.answers) != requests,
        "one answer went to two callers": len(set(callers.answers.values())) != len(callers.answers),
        "something was paid twice": paid != requests + WARM_UP,
        "requests were counted wrongly": after.settled != requests + WARM_UP,
        "keys stayed": any(n > before.keys[kind] for kind, n in after.keys.items() if kind != STAYING),
        "more batch records than batches": after.keys[STAYING] > after.batches,
        "something will never expire": any(n > before.immortal[kind] for kind, n in after.immortal.items()),
        "memory grew": after.memory - before.memory > ALLOWED_BYTES + batches * RECORD_BYTES,
        "the stream is not trimmed": after.stream > max(before.stream, 100),
        "files are left upstream": after.files > 0,
    }
    return {
        "requests": requests,
        "answered_right": len(callers.answers) - len(callers.wrong),
        "seconds": round(took),
        "batches": batches,
        "retries_of_callers": callers.retries,
        "memory_peak": peak,
        "before": vars(before),
        "after": vars(after),
        "violations": [name for name, broken in violations.items() if broken],
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--at-once", type=int, default=300)
    given = parser.parse_args()
    result = run(given.requests, given.at_once)
    print(json.dumps(result, indent=1))  # noqa: T201 - the report
    sys.exit(bool(result["violations"]))
