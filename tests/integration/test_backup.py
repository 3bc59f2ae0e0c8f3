"""A Redis that is lost, and started again from a copy: what is kept, and what an old copy cannot know."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from tests import running
from tests.ground import HASTY_APP, HASTY_WSGI
from tests.integration.test_pipeline import batches_of
from tests.running import RedisServer, Stack, until
from tests.simulator.server import Simulator

Own = tuple[Stack, RedisServer, Simulator]
FILES = "appendonlydir"


@pytest.fixture
def own(own_upstream: Simulator) -> Iterator[Own]:
    """A stack whose Redis the test takes away."""
    own_upstream.configure(ends=[{"model": "stays", "stuck": "in_progress"}])
    with (
        running.redis_server() as server,
        running.running_stack(server.url, own_upstream.url, app=HASTY_APP, wsgi=HASTY_WSGI) as stack,
    ):
        yield stack, server, own_upstream


def ask(stack: Stack, question: str, model: str) -> str:
    """A client that comes again, as SDKs do."""
    body = {"model": model, "messages": [{"role": "user", "content": question}]}
    for attempt in range(20):
        headers = {"Authorization": "Bearer sk-backup", "X-Stainless-Retry-Count": str(attempt)}
        with contextlib.suppress(requests.RequestException):
            answer = requests.post(f"{stack.url}/v1/chat/completions", json=body, headers=headers, timeout=90)
            if answer.ok:
                return str(answer.json()["choices"][0]["message"]["content"])
        time.sleep(1)
    return "nothing"


def ask_all(pool: ThreadPoolExecutor, stack: Stack, model: str) -> dict[str, Future[str]]:
    return {f"echo:{model} {n}": pool.submit(ask, stack, f"{model} {n}", model) for n in range(5)}


def copied(server: RedisServer, name: str) -> Path:
    """A copy of the files while they are written to, as docs/operations.md says."""
    server.client.config_set("auto-aof-rewrite-percentage", 0)
    until(lambda: not server.client.info("persistence")["aof_rewrite_in_progress"], "no file is being rewritten")
    copy = server.directory / name
    shutil.copytree(server.directory / FILES, copy)
    server.client.config_set("auto-aof-rewrite-percentage", 100)
    return copy


def lose_and_restore(server: RedisServer, copy: Path) -> None:
    """kill -9, everything gone; then the copy in its place."""
    server.kill()
    shutil.rmtree(server.directory / FILES)
    shutil.copytree(copy, server.directory / FILES)
    server.start()


def test_from_a_copy_all_that_was_in_it_is_answered_and_nothing_paid_twice(own: Own) -> None:
    stack, server, upstream = own
    with ThreadPoolExecutor(10) as pool:
        jobs = ask_all(pool, stack, "stays")
        until(lambda: sum(int(str(b["lines"])) for b in batches_of(upstream, "stays")) == 5, "five are at the upstream")
        stack.kill("beat")
        jobs |= ask_all(pool, stack, "queued")
        until(lambda: server.client.get("lp:unsettled") == b"10", "five more are queued")

        lose_and_restore(server, copied(server, "copy"))
        stack.start("beat")
        upstream.finish()

        assert {right: job.result(timeout=90) for right, job in jobs.items()} == {right: right for right in jobs}
    paid = upstream.stats()["billed"]
    assert paid["requests"] == 10
    assert paid["more_than_once"] == []


def test_from_a_copy_that_is_older_than_a_batch_all_is_answered_and_that_batch_is_paid_again(own: Own) -> None:
    stack, server, upstream = own
    stack.kill("beat")
    with ThreadPoolExecutor(10) as pool:
        jobs = ask_all(pool, stack, "stays")
        until(lambda: server.client.get("lp:unsettled") == b"5", "five are queued")
        copy = copied(server, "copy")
        stack.start("beat")
        until(lambda: sum(int(str(b["lines"])) for b in batches_of(upstream, "stays")) == 5, "five are at the upstream")
        jobs |= ask_all(pool, stack, "later")
        until(lambda: all(job.done() for right, job in jobs.items() if "later" in right), "five more come and go")

        lose_and_restore(server, copy)
        until(lambda: sum(int(str(b["lines"])) for b in batches_of(upstream, "stays")) == 10, "they are there again")
        upstream.finish()

        assert {right: job.result(timeout=90) for right, job in jobs.items()} == {right: right for right in jobs}
    paid = upstream.stats()["billed"]
    assert paid["requests"] == 15  # what docs/operations.md says: the copy knows nothing of the batch
    assert len(paid["more_than_once"]) == 5
