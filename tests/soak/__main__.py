"""`python -m tests.soak --requests 100000`: keys and memory of Redis before and after; exits 1 when they grow."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from random import Random
from typing import Any

from tests import running
from tests.chaos.clients import Callers
from tests.simulator.server import serve

RESULT_TTL_SECONDS = 5
#: Kept for 7 days, for people who ask.
STAYING = {"batch"}
#: Growth of Redis' memory that is no leak: batch records, stream, tables that have grown.
ALLOWED_BYTES = 4_000_000


def kinds(client: Any) -> Counter[str]:
    """How many keys there are of each kind."""
    names = (key.decode().removeprefix("lp:") for key in client.scan_iter(count=10_000))
    return Counter("kombu's" if name.startswith("_kombu") else name.split(":")[0] for name in names)


def run(requests: int, at_once: int) -> dict[str, Any]:
    """One run; the report names the violations."""
    with (
        running.redis_server() as server,
        serve(validate_delay=0.1, batch_delay=0.3, finalize_delay=0.1) as upstream,
        running.running_stack(
            server.url,
            upstream.url,
            app="tests.chaos.worker_app",
            wsgi="tests.chaos.web_app:create_app()",
            LLM_PROXY_RESULT_TTL_SECONDS=str(RESULT_TTL_SECONDS),
        ) as stack,
    ):
        Callers(stack.url, "batch", 200, Random(0)).run(200, 0)
        time.sleep(RESULT_TTL_SECONDS + 2)
        before, memory_before = kinds(server.client), server.client.info("memory")["used_memory"]
        began = time.monotonic()
        callers = Callers(stack.url, "batch", requests, Random(1))
        callers.run(at_once, 0)
        took = time.monotonic() - began
        time.sleep(RESULT_TTL_SECONDS + 70)  # the reply's lifetime, then the stream's
        after, memory_after = kinds(server.client), server.client.info("memory")["used_memory"]
    report: dict[str, Any] = {
        "requests": requests,
        "answered_right": len(callers.answers) - len(callers.wrong),
        "seconds": round(took),
        "keys_before": dict(before),
        "keys_after": dict(after),
        "memory_before": memory_before,
        "memory_after": memory_after,
    }
    report["violations"] = [
        name
        for name, broken in {
            "an answer is wrong or missing": bool(callers.wrong) or len(callers.answers) != requests,
            "keys stayed": any(n > before[kind] for kind, n in after.items() if kind not in STAYING),
            "memory grew": memory_after - memory_before > ALLOWED_BYTES,
        }.items()
        if broken
    ]
    return report


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--at-once", type=int, default=300)
    given = parser.parse_args()
    result = run(given.requests, given.at_once)
    print(json.dumps(result, indent=1))  # noqa: T201 - the report
    sys.exit(bool(result["violations"]))
