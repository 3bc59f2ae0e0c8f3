"""What an access token may have: requests per minute, requests that wait, dollars per day."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from tasks import allowances, connections
from tests.integration.house import CHAT, House, line_of, opened
from tests.integration.test_pipeline import batches_of
from tests.running import until


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    with opened() as made:
        yield made


def test_requests_per_minute_are_counted_over_all_processes_and_the_answer_says_when_to_come_again(
    house: House,
) -> None:
    house.write(line_of("t-rate", "rate", "requests_per_minute=10"))
    with ThreadPoolExecutor(15) as pool:
        answers = list(pool.map(lambda n: house.post("t-rate", f"q{n}", "rated"), range(15)))

    refused = [answer for answer in answers if answer.status_code != 200]
    assert [answer.status_code for answer in refused] == [429] * 5
    assert {answer.json()["error"]["code"] for answer in refused} == {"rate_limit_exceeded"}
    assert all(1 <= int(answer.headers["Retry-After"]) <= 7 for answer in refused)
    assert house.get("t-rate").status_code == 429  # relayed calls count, too
    assert sum(int(str(batch["lines"])) for batch in batches_of(house.upstream, "rated")) == 10


def test_relayed_calls_are_counted_per_minute(house: House) -> None:
    house.write(line_of("t-relayed", "relayed", "requests_per_minute=3"))

    assert sorted(house.get("t-relayed").status_code for _ in range(5)) == [200, 200, 200, 429, 429]


def test_so_many_requests_of_a_token_may_wait_and_another_one_when_one_is_answered(house: House) -> None:
    house.write(line_of("t-waits", "waits", "waiting=3"))
    house.upstream.configure(ends=[{"model": "slow", "stuck": "in_progress"}])
    with ThreadPoolExecutor(3) as pool:
        held = [pool.submit(house.post, "t-waits", f"q{n}", "slow") for n in range(3)]
        until(lambda: house.redis.hget("lp:label:waits", "waiting") == b"3", "three are waiting")
        refused = house.post("t-waits", "one more")
        until(lambda: sum(int(str(b["lines"])) for b in batches_of(house.upstream, "slow")) == 3, "they are submitted")
        house.upstream.finish()
        assert [answer.result().status_code for answer in held] == [200] * 3

    assert refused.status_code == 429
    assert refused.headers["Retry-After"]
    assert house.post("t-waits", "now").status_code == 200
    assert house.redis.hget("lp:label:waits", "waiting") is None


def test_a_retry_finds_its_request_although_nothing_more_may_wait(house: House) -> None:
    house.write(line_of("t-again", "again", "waiting=1"))
    house.upstream.configure(ends=[{"model": "again", "stuck": "in_progress"}])
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(house.post, "t-again", "q", "again", **{"Idempotency-Key": "mine"})
        until(lambda: batches_of(house.upstream, "again"), "it is submitted")
        second = pool.submit(house.post, "t-again", "q", "again", **{"Idempotency-Key": "mine"})
        until(lambda: house.redis.hget(request_key(house), "attached") == b"1", "the second has found it")
        house.upstream.finish()
        assert first.result().content == second.result().content


def request_key(house: House) -> bytes:
    [found] = [key for key in house.redis.keys("lp:request:*") if house.redis.hget(key, "label") == b"again"]
    return bytes(found)


def test_what_a_day_has_cost_is_compared_with_the_tokens_dollars(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.write(line_of("t-money", "money", "dollars_per_day=0.5"))
    assert house.post("t-money", "cheap").status_code == 200
    day = int(house.redis.time()[0]) // 86400

    monkeypatch.setattr(connections, "client", lambda: house.redis)
    allowances.spent(day, {"money": 500_000, "somebody-else": 1})
    answer = house.post("t-money", "dear")

    assert answer.status_code == 429
    assert answer.json()["error"]["code"] == "insufficient_quota"
    assert 0 < int(answer.headers["Retry-After"]) <= 86_401
    assert answer.headers["x-should-retry"] == "false"
    assert house.get("t-money").status_code == 429


def test_a_token_with_dollars_per_day_cannot_go_past_the_count(house: House) -> None:
    house.write(line_of("t-count", "count", "dollars_per_day=5"))
    headers = {"Authorization": "Bearer t-count"}
    body = {"model": "m", "messages": []}

    around = [
        requests.post(house.stack.url + CHAT + "?x=1", json=body, headers=headers, timeout=30),
        requests.post(house.stack.url + CHAT, json=body, headers={**headers, "OpenAI-Beta": "x"}, timeout=30),
        requests.post(
            house.stack.url + "/v1/responses", json={**body, "background": True}, headers=headers, timeout=30
        ),
        requests.post(house.stack.url + "/v1/images/generations", json=body, headers=headers, timeout=30),
    ]

    assert [answer.status_code for answer in around] == [403] * 4
    assert house.get("t-count").status_code == 200
