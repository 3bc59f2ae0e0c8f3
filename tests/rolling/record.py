"""Writes down what a version of the project leaves in Redis, as text: `python -m tests.rolling.record <commit>`.

Requests in every state that lasts: queued (batch and synchronous), claimed, submitted, ended, settled; then all
processes are killed. The first line of the output has what belongs to the records outside of Redis.
"""

from __future__ import annotations

import contextlib
import json
import re
import sys
import threading
import time
from typing import Any

import requests

from tests import running
from tests.rolling import versions
from tests.running import Stack, until
from tests.simulator.server import Simulator, serve

#: What may be found again by people who read the records.
VAULT_KEY = "of-the-records-of-the-tests-" * 2
API_KEY = "sk-records"
#: Requests by model, which says how far they come; `sync` is a lane, not a model's end.
MODELS = {"settled": 2, "ended": 3, "submitted": 3, "claimed": 2, "queued": 3, "sync": 2}
CHAT = "/v1/chat/completions"
#: Written anew by whoever runs, or looked at by people only.
LEFT_OUT = (
    "lp:stats",
    "lp:latency:",
    "lp:minutes:",
    "lp:usage:",
    "lp:ticks",
    "lp:waiting",
    "_kombu",
    "celery.pidbox",
    "celeryev",
)


def body(model: str, number: int) -> dict[str, Any]:
    """What is asked, by number: a retry of it is the same."""
    return {"model": model, "messages": [{"role": "user", "content": f"{model} {number}"}]}


def headers(model: str, number: int) -> dict[str, str]:
    """How it is asked: settled ones by an Idempotency-Key, which finds them again."""
    own = {"settled": {"Idempotency-Key": f"settled-{number}"}, "sync": {"X-Batch-Mode": "sync"}}
    return {"Authorization": f"Bearer {API_KEY}", **own.get(model, {})}


def ask(url: str, model: str, number: int, timeout: float = 60, **more: str) -> requests.Response:
    """One request, as a client sends it for the first time or again."""
    return requests.post(
        url + CHAT, json=body(model, number), headers={**headers(model, number), **more}, timeout=timeout
    )


def _send(stack: Stack, model: str) -> None:
    """By clients who will not live to see the answer."""

    def client(number: int) -> None:
        with contextlib.suppress(requests.RequestException):
            ask(stack.url, model, number)

    for number in range(MODELS[model]):
        threading.Thread(target=client, args=(number,), daemon=True).start()


def record(commit: str) -> list[str]:
    """The lines of the file."""
    with (
        versions.checkout(commit) as tree,
        running.redis_server() as server,
        serve(validate_delay=0.1, batch_delay=0.3, finalize_delay=0.1) as upstream,
        running.running_stack(
            server.url, upstream.url, launch=versions.launch_from(lambda name: tree), LLM_PROXY_VAULT_KEYS=VAULT_KEY
        ) as stack,
    ):
        redis = server.client

        def states() -> list[bytes]:
            return sorted(
                redis.hget(f"lp:batch:{name.decode()}", "state") for name in redis.zrange("lp:batches", 0, -1)
            )

        for number in range(MODELS["settled"]):
            assert ask(stack.url, "settled", number).status_code == 200
        until(lambda: not states(), "the batches of settled requests are cleaned up")
        upstream.configure(batch_delay=4, ends=[{"model": "submitted", "stuck": "in_progress"}])
        for model in ("ended", "submitted"):
            _send(stack, model)
        until(lambda: states() == [b"submitted", b"submitted"], "two batches are at the upstream")
        stack.kill("worker-transfer", "worker-sync")
        until(lambda: states() == [b"ended", b"submitted"], "one has ended")
        _send(stack, "claimed")
        until(lambda: states() == [b"claimed", b"ended", b"submitted"], "one is claimed")
        stack.kill("beat", "worker-control")
        for model in ("queued", "sync"):
            _send(stack, model)
        until(
            lambda: redis.get("lp:unsettled") == str(sum(MODELS.values()) - MODELS["settled"]).encode(),
            "all are accepted",
        )
        stack.kill("web")
        return [_head(commit, upstream), *sorted(_entries(redis))]


def _head(commit: str, upstream: Simulator) -> str:
    batches = []
    for batch in upstream.stats()["batches"]:
        if batch["model"] != "settled":
            lines = [line.decode() for line in upstream.lines(batch["id"])]
            batches.append({"model": batch["model"], "id": batch["id"], "lines": lines})
    return json.dumps({"commit": commit, "ms": int(time.time() * 1000), "batches": batches})


def _entries(redis: Any) -> list[str]:
    found = []
    for key in redis.scan_iter(count=1000):
        name = key.decode()
        if not name.startswith(LEFT_OUT):
            kind = redis.type(key).decode()
            read = {
                "string": redis.get,
                "hash": redis.hgetall,
                "list": lambda key: redis.lrange(key, 0, -1),
                "zset": lambda key: redis.zrange(key, 0, -1, withscores=True),
                "stream": redis.xrange,
            }[kind]
            entry = json.dumps([name, kind, redis.pttl(key), _text(read(key))], sort_keys=True)
            found.append(re.sub(r"gen\d+@[\w.-]+", "worker@host", entry))  # Celery notes where a message comes from
    return found


def _text(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, dict):
        return {_text(k): _text(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_text(part) for part in value]
    return value


if __name__ == "__main__":
    sys.stdout.write("\n".join(record(sys.argv[1])) + "\n")
