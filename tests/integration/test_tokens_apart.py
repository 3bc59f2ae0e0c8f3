"""Two access tokens over one upstream key: neither meets the other's requests."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from tests.integration.house import CHAT, House, line_of, opened
from tests.integration.test_pipeline import batches_of
from tests.running import until


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    with opened() as made:
        yield made


def ids(house: House, *tokens: str, **headers: str) -> list[str]:
    """The task ids that equal requests of these tokens get, sent at once."""
    ready = threading.Barrier(len(tokens))

    def send(token: str) -> str:
        ready.wait()
        answer = house.post(token, "the same", "same", **headers)
        assert answer.status_code == 200
        assert json.loads(answer.content)["choices"]
        return answer.headers["x-batch-task-id"]

    with ThreadPoolExecutor(len(tokens)) as pool:
        return list(pool.map(send, tokens))


def test_two_tokens_over_one_key_never_meet_each_others_requests(house: House) -> None:
    """Neither by an Idempotency-Key, nor as a retry, nor in a batch, nor as an orphan's heir."""
    house.write(line_of("t-a", "a"), line_of("t-b", "b"), line_of("t-b2", "b"))
    key = {"Idempotency-Key": "k"}
    retry = {"x-stainless-retry-count": "1"}
    first_a, first_b = ids(house, "t-a", "t-b", **key)
    again_a, again_b = ids(house, "t-a", "t-b2", **key)
    retry_a, retry_b = ids(house, "t-a", "t-b", **retry)

    assert first_a != first_b
    assert (again_a, again_b) == (first_a, first_b)  # an old and a new token of one caller are one caller
    assert len({first_a, first_b, retry_a, retry_b}) == 4
    assert all(batch["lines"] == 1 for batch in batches_of(house.upstream, "same"))


@pytest.mark.parametrize("taker", ["t-heir", "t-stranger"])
def test_an_orphan_is_taken_by_its_own_caller_only(house: House, taker: str) -> None:
    house.write(line_of("t-heir", "heir"), line_of("t-stranger", "stranger"))
    model = f"orphan-{taker}"
    house.upstream.configure(ends=[{"model": model, "stuck": "in_progress"}])
    with pytest.raises(requests.ReadTimeout):
        requests.post(
            house.stack.url + CHAT,
            json={"model": model, "messages": [{"role": "user", "content": "left"}]},
            headers={"Authorization": "Bearer t-heir"},
            timeout=1.5,
        )
    until(lambda: batches_of(house.upstream, model), "it is submitted")
    with ThreadPoolExecutor(1) as pool:
        body = house.post
        answer = pool.submit(body, taker, "left", model, **{"x-stainless-retry-count": "1"})
        wanted = 1 if taker == "t-heir" else 2
        if wanted == 2:
            until(lambda: len(batches_of(house.upstream, model)) == 2, "the stranger's is one of its own")
        else:
            time.sleep(1)  # longer than a group is held: nothing new is submitted
        house.upstream.finish()
        assert answer.result().status_code == 200

    assert len(batches_of(house.upstream, model)) == wanted


def test_task_ids_cannot_be_guessed() -> None:
    """128 bits less six that say so."""
    from tasks.models import new_id

    made = {new_id() for _ in range(1000)}

    assert len(made) == 1000
    for position in set(range(32)) - {12, 16}:
        assert len({each[position] for each in made}) == 16
