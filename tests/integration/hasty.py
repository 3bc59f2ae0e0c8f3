"""Stacks whose patience is short enough to be waited for, and what the tests of batch ends ask of them."""

from __future__ import annotations

import concurrent.futures
import contextlib
from collections.abc import Iterator
from typing import Any

import openai
import requests

from tests import running
from tests.running import Stack
from tests.simulator.server import Simulator, serve

DELAYS: dict[str, Any] = {"validate_delay": 0.1, "batch_delay": 0.2, "finalize_delay": 0.1, "cancel_delay": 0.1}

Case = tuple[Stack, Simulator, str]


@contextlib.contextmanager
def hasty_stack(**variables: str) -> Iterator[tuple[Stack, Simulator]]:
    """A Redis, an upstream and a stack with short leases and a busy sweep."""
    with (
        running.redis_server() as server,
        serve(**DELAYS) as upstream,
        running.running_stack(
            server.url, upstream.url, app="tests.chaos.worker_app", extra=(), only=(), launch=running.quick, **variables
        ) as stack,
    ):
        yield stack, upstream


def fresh(upstream: Simulator) -> None:
    """An empty ledger and the usual delays."""
    upstream.reset()
    upstream.configure(**DELAYS)


def post(case: Case, model: str, content: str, *, user: str = "", **headers: str) -> Any:
    """One chat request as `requests` sees its answer; `user` carries the simulator's controls."""
    stack, _, key = case
    body = {"model": model, "messages": [{"role": "user", "content": content}], **({"user": user} if user else {})}
    return requests.post(
        f"{stack.url}/v1/chat/completions", json=body, headers={"Authorization": f"Bearer {key}", **headers}, timeout=90
    )


def post_many(case: Case, model: str, count: int, **headers: str) -> list[Any]:
    """So many requests at once, with different questions."""
    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        return list(pool.map(lambda n: post(case, model, f"{model} {n}", **headers), range(count)))


def assert_all_right(answers: list[Any], model: str) -> None:
    """Each question has its own answer."""
    assert [a.status_code for a in answers] == [200] * len(answers), [a.text for a in answers if a.status_code != 200]
    contents = [a.json()["choices"][0]["message"]["content"] for a in answers]
    assert contents == [f"echo:{model} {n}" for n in range(len(answers))]


def sdk(case: Case) -> openai.OpenAI:
    """The real SDK without retries of its own."""
    stack, _, key = case
    return openai.OpenAI(base_url=f"{stack.url}/v1", api_key=key, max_retries=0)


def counters(case: Case) -> dict[str, Any]:
    """/stats."""
    found: dict[str, Any] = requests.get(f"{case[0].url}/stats", timeout=10).json()
    return found
