"""MAX_WAITING: so many requests may wait, over all processes, and no more are accepted."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import gevent
import pytest
import requests

from tasks import batches, settle, store
from tasks.accept import Acceptor
from tasks.errors import TooManyWaiting
from tasks.models import Allowance, Group, Lane
from tasks.settings import settings
from tests import running
from tests.integration.accepting import GROUP, accept, make_request, ok
from tests.integration.test_pipeline import batches_of
from tests.running import Stack, until
from tests.simulator.server import Simulator, serve

CHAT = "/v1/chat/completions"


@pytest.fixture
def three(redis_client: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("LLM_PROXY_MAX_WAITING", "3")
    settings.cache_clear()
    return redis_client


def settle_all(*ids: str) -> None:
    batch_id = batches.claim(GROUP.id)
    assert batch_id
    settle.settle((request_id, batch_id, ok()) for request_id in ids)


def test_what_is_settled_makes_room(three: Any) -> None:
    requests_ = [make_request(fingerprint=f"f{n}") for n in range(3)]
    accept(*requests_)
    with pytest.raises(TooManyWaiting):
        accept(make_request(fingerprint="one-more"))
    assert three.get("lp:unsettled") == b"3"
    stranger = Group(credential="d" * 24, endpoint=GROUP.endpoint, model="of-a-stranger")
    with pytest.raises(TooManyWaiting):
        accept(make_request(group=stranger))
    assert not three.exists(f"lp:group:{stranger.id}", f"lp:credential:{stranger.credential}")  # it leaves nothing

    settle_all(*(request.id for request in requests_))

    assert not three.exists("lp:unsettled")
    accept(make_request(fingerprint="one-more"))


def test_of_those_that_come_at_once_as_many_are_accepted_as_there_is_room_for(three: Any) -> None:
    acceptor = Acceptor(settings())
    acceptor.start()
    jobs = [gevent.spawn(acceptor.accept, make_request(fingerprint=f"f{n}"), "Bearer sk-x") for n in range(10)]
    gevent.joinall(jobs, timeout=10)

    assert sum(job.successful() for job in jobs) == 3
    assert {type(job.exception) for job in jobs} == {type(None), TooManyWaiting}
    assert three.hget("lp:stats", "requests_total") == b"3"


def test_a_repetition_finds_its_request_though_there_is_no_room(three: Any) -> None:
    first = make_request(idempotency_key="k")
    accept(first, make_request(fingerprint="f2"), make_request(fingerprint="f3"))

    assert accept(make_request(idempotency_key="k")) == [first.id]


@pytest.mark.parametrize("lane", [Lane.BATCH, Lane.SYNC])
def test_what_is_taken_back_makes_room_in_all_and_for_its_token(three: Any, lane: Lane) -> None:
    allowance = Allowance(label="team", waiting=2)
    request = make_request(allowance=allowance, lane=lane)
    accept(request)
    assert three.hget("lp:label:team", "waiting") == b"1"

    store.run("withdraw", "requests_cancelled", request.id)
    store.run("withdraw", "requests_cancelled", request.id)

    assert not three.exists("lp:unsettled")
    assert three.hget("lp:label:team", "waiting") is None


def test_running_the_script_again_counts_nothing_twice(three: Any) -> None:
    request = make_request(allowance=Allowance(label="team", waiting=2, requests_per_minute=2))
    for _ in range(4):
        accept(request)

    assert three.get("lp:unsettled") == b"1"
    assert three.hget("lp:label:team", "waiting") == b"1"


def test_a_synchronous_request_that_is_taken_back_is_not_called(redis_client: Any) -> None:
    """Its place would be kept for it, and nobody behind it be called."""
    many = [make_request(fingerprint=f"f{n}", lane=Lane.SYNC) for n in range(60)]
    accept(*many)
    waiting = f"lp:waiting:{GROUP.credential}"
    assert redis_client.zcard(waiting) == 60 - settings().sync_concurrency

    store.run("withdraw", "requests_cancelled", *(request.id for request in many))

    assert redis_client.zcard(waiting) == 0


@pytest.fixture
def small() -> Iterator[tuple[Stack, Simulator]]:
    with (
        running.redis_server() as server,
        serve(validate_delay=0.05, batch_delay=0.1, finalize_delay=0.05) as upstream,
        running.running_stack(
            server.url, upstream.url, LLM_PROXY_MAX_WAITING="4", LLM_PROXY_WEB_PROCESSES="2"
        ) as stack,
    ):
        yield stack, upstream


def test_the_front_says_503_and_when_to_come_again_and_then_takes_it(small: tuple[Stack, Simulator]) -> None:
    stack, upstream = small
    upstream.configure(ends=[{"model": "held", "stuck": "in_progress"}])

    def post(n: int) -> requests.Response:
        body = {"model": "held", "messages": [{"role": "user", "content": f"q{n}"}]}
        return requests.post(stack.url + CHAT, json=body, headers={"Authorization": f"Bearer sk-{n}"}, timeout=60)

    with ThreadPoolExecutor(10) as pool:  # of ten callers, over two processes
        jobs = [pool.submit(post, n) for n in range(10)]
        until(lambda: sum(job.done() for job in jobs) == 6, "six are refused")
        refused = [job.result() for job in jobs if job.done()]
        until(lambda: len(batches_of(upstream, "held")) == 4, "four are submitted")
        upstream.finish()
        answered = [job.result() for job in jobs if job.result() not in refused]

    assert {answer.status_code for answer in refused} == {503}
    assert {answer.json()["error"]["code"] for answer in refused} == {"too_many_waiting"}
    assert all(int(answer.headers["Retry-After"]) > 0 for answer in refused)
    assert [answer.status_code for answer in answered] == [200] * 4
    began = time.monotonic()
    upstream.configure(ends=[])
    assert post(11).status_code == 200
    assert time.monotonic() - began < 20
