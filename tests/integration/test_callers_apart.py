"""Two callers with keys of their own: neither gets, repeats or joins what is the other's."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from tests.integration.test_pipeline import batches_of
from tests.running import Stack, until
from tests.simulator.server import Simulator

CHAT = "/v1/chat/completions"


def post(
    stack: Stack, key: str, model: str, headers: dict[str, str] | None = None, seconds: float = 60
) -> requests.Response:
    body = {"model": model, "messages": [{"role": "user", "content": "the same"}]}
    sent = {"Authorization": f"Bearer {key}", **(headers or {})}
    return requests.post(stack.url + CHAT, json=body, headers=sent, timeout=seconds)


@pytest.mark.parametrize(
    "headers",
    [
        {"Idempotency-Key": "k"},
        {"x-stainless-retry-count": "1"},
        {"x-stainless-retry-count": "2", "Idempotency-Key": "j"},
        {},
    ],
    ids=str,
)
def test_two_keys_send_the_same_and_get_answers_of_their_own(
    stack: Stack, upstream: Simulator, headers: dict[str, str]
) -> None:
    model = f"apart-{len(str(headers))}"
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda key: post(stack, key, model, headers), ["sk-apart-a", "sk-apart-b"]))
    again = post(stack, "sk-apart-b", model, headers)

    assert [answer.status_code for answer in (*answers, again)] == [200] * 3
    assert len({answer.headers["x-batch-task-id"] for answer in answers}) == 2
    assert len({answer.headers["x-batch-id"] for answer in answers}) == 2
    assert again.headers["x-batch-task-id"] != answers[0].headers["x-batch-task-id"]
    assert all(batch["lines"] == 1 for batch in batches_of(upstream, model))


def test_what_one_left_behind_is_nothing_to_the_other(stack: Stack, upstream: Simulator) -> None:
    upstream.configure(ends=[{"model": "left", "stuck": "in_progress"}])
    with pytest.raises(requests.ReadTimeout):
        post(stack, "sk-left-a", "left", seconds=1)
    until(lambda: batches_of(upstream, "left"), "it is submitted")
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(post, stack, "sk-left-b", "left", {"x-stainless-retry-count": "1"})
        until(lambda: len(batches_of(upstream, "left")) == 2, "the other's is one of its own")
        upstream.finish()
        assert answer.result().status_code == 200
