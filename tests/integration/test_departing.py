"""What a client leaves behind, script by script: a reply that it got, an orphan, nothing; fronts that were cut off."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tasks import batches, presence, store
from tasks.departures import How
from tasks.errors import StoreUnavailable
from tasks.models import Attempt, Request
from tests.integration.accepting import GROUP, make_request
from tests.integration.fronts import LATER, Web, answer


def test_a_delivered_success_is_given_to_one_retry_and_to_no_other(web: Web, request_: Request) -> None:
    answer(request_)
    web.depart(request_, How.SUCCESS)

    other = make_request()
    assert web.ask(other) == other.id
    answer(other)
    web.depart(other, How.SUCCESS)
    first = web.retry()
    assert web.retry() == LATER
    assert {first, web.retry(Attempt.JOIN)} == {request_.id, other.id}
    third = make_request(attempt=Attempt.JOIN, tries=1)
    assert web.ask(third) == third.id


def test_a_success_that_was_not_read_is_an_orphan_unless_a_retry_has_it(web: Web, request_: Request) -> None:
    answer(request_)
    web.depart(request_, How.SUCCESS)
    web.depart(request_, How.LOST)
    assert Web().retry(Attempt.FIRST) == request_.id
    web.depart(request_, How.LOST)

    other = make_request()
    assert web.ask(other) == other.id


def test_a_success_that_was_delivered_long_ago_is_given_to_nobody(
    web: Web, request_: Request, redis_client: Any
) -> None:
    answer(request_)
    web.depart(request_, How.SUCCESS)
    index = f"lp:equal:{request_.digest}"
    assert 0 < redis_client.ttl(index) <= store.DELIVERED_SECONDS
    redis_client.set(index, f"{request_.id} {-(time.time() - store.DELIVERED_SECONDS - 5)}")

    retry = make_request(attempt=Attempt.RETRY, tries=1)
    assert web.ask(retry) == retry.id


@pytest.mark.parametrize("status", [400, 429, 500])
def test_an_error_that_was_delivered_is_not_replayed(
    web: Web, request_: Request, redis_client: Any, status: int
) -> None:
    answer(request_, status)
    web.depart(request_, How.ERROR)
    retry = make_request(attempt=Attempt.RETRY, tries=1)

    assert web.ask(retry) == retry.id


def test_an_error_that_broke_off_late_is_found_by_the_retry(web: Web, request_: Request) -> None:
    answer(request_, 400)
    web.depart(request_, How.GONE)

    assert web.retry() == request_.id


def test_an_error_of_long_ago_is_no_answer_to_who_asks_anew_nor_to_their_retries(
    web: Web, request_: Request, redis_client: Any
) -> None:
    answer(request_, 499)
    web.depart(request_, How.GONE)
    redis_client.hincrby(f"lp:request:{request_.id}", "settled", -590_000)
    recent = make_request()
    assert web.ask(recent) == request_.id  # whoever has no retry count finds the true error of a late cut

    web.depart(recent, How.GONE, request_.id)
    redis_client.hincrby(f"lp:request:{request_.id}", "settled", -20_000)
    anew = make_request()
    assert web.ask(anew) == anew.id

    web.depart(anew, How.GONE)
    assert web.retry() == anew.id


def test_a_success_of_long_ago_that_nobody_has_read_is_the_next_equal_requests(
    web: Web, request_: Request, redis_client: Any
) -> None:
    answer(request_)
    web.depart(request_, How.GONE)
    redis_client.hincrby(f"lp:request:{request_.id}", "settled", -86_400_000)

    assert web.ask(make_request()) == request_.id


def test_a_retryable_error_that_was_delivered_frees_its_idempotency_key(web: Web) -> None:
    first = make_request(idempotency_key="k")
    web.ask(first)
    answer(first, 429)
    assert web.ask(make_request(idempotency_key="k")) == first.id
    web.depart(first, How.KEY)

    second = make_request(idempotency_key="k")
    assert web.ask(second) == second.id
    web.depart(first, How.KEY)
    assert web.ask(make_request(idempotency_key="k")) == second.id


def test_a_client_that_left_after_its_request_was_taken_takes_nothing_back(web: Web, request_: Request) -> None:
    other = Web()
    assert web.retry() == LATER
    assert other.retry(Attempt.JOIN) == request_.id
    web.depart(request_, How.GONE)

    assert web.retry() == LATER


def test_a_taking_whose_answer_was_lost_gives_the_same_orphan_again(web: Web, request_: Request) -> None:
    web.depart(request_, How.GONE)
    retry = make_request(attempt=Attempt.RETRY, tries=1)

    assert [web.ask(retry), web.ask(retry)] == [request_.id, request_.id]


def test_a_taking_that_was_refused_in_doubt_leaves_the_orphan_to_the_next(web: Web, request_: Request) -> None:
    web.depart(request_, How.GONE)
    retry = make_request(attempt=Attempt.RETRY, tries=1)
    assert web.ask(retry) == request_.id

    store.run("withdraw", "requests_total", retry.id)

    assert Web().retry() == request_.id


def test_a_request_that_is_gone_is_no_orphan(web: Web, request_: Request, redis_client: Any) -> None:
    web.depart(request_, How.GONE)
    store.run("withdraw", "requests_total", request_.id)
    assert not redis_client.exists(f"lp:request:{request_.id}")

    other = make_request()
    assert web.ask(other) == other.id


def test_a_queued_request_is_taken_out_with_its_client_unless_a_retry_attached(web: Web, redis_client: Any) -> None:
    alone, attached, sent = make_request(fingerprint="a"), make_request(fingerprint="b"), make_request(fingerprint="c")
    web.ask(sent)
    assert batches.claim(GROUP.id)
    web.ask(alone)
    web.ask(attached)
    web.depart(attached, How.GONE)
    assert web.retry(fingerprint="b") == attached.id

    for request in (alone, attached, sent):
        web.depart(request, How.CANCELLED)

    left = [redis_client.exists(f"lp:request:{request.id}") for request in (alone, attached, sent)]
    assert left == [0, 1, 1]
    assert redis_client.hmget("lp:stats", "requests_total", "requests_cancelled") == [b"3", b"1"]


def test_a_front_that_counted_as_dead_takes_back_what_nobody_took(web: Web, redis_client: Any) -> None:
    kept, taken = make_request(fingerprint="kept"), make_request(fingerprint="taken")
    web.ask(kept)
    web.ask(taken)
    redis_client.zadd("lp:fronts", {web.presence.number: 1})
    assert Web().retry(fingerprint="taken") == taken.id
    lost: set[str] = set()
    web.presence._waiting = lambda: [(request.id, request.digest) for request in (kept, taken)]
    web.presence._lost = lost.update

    web.presence._renew()

    assert lost == {taken.id}
    assert Web().retry(fingerprint="kept") == LATER


def test_taking_back_that_broke_off_loses_nobody(
    web: Web, request_: Request, redis_client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    redis_client.zadd("lp:fronts", {web.presence.number: 1})
    web.presence._waiting = lambda: [(request_.id, request_.digest)]
    lost: set[str] = set()
    web.presence._lost = lost.update
    run = store.run
    broken: list[str] = []

    def breaking(name: str, *args: Any) -> Any:
        done = run(name, *args)
        if name == "reclaim" and not broken:
            broken.append(name)
            raise StoreUnavailable("the answer was lost", retry_after_seconds=20)
        return done

    monkeypatch.setattr(store, "run", breaking)
    with pytest.raises(StoreUnavailable):
        web.presence._renew()
    web.presence._renew()

    assert lost == set()
    assert Web().retry() == LATER


def test_a_front_that_may_count_as_dead_asks_before_it_says_that_it_lives(
    web: Web, request_: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = web.presence.number
    monkeypatch.setattr(presence, "ABSENT_SECONDS", 0.0)
    web.presence._renew()
    web.presence.ensure()

    assert web.presence.number > before


def test_the_index_of_equal_requests_lives_no_longer_than_they_do(
    web: Web, request_: Request, redis_client: Any
) -> None:
    index = f"lp:equal:{request_.digest}"
    assert redis_client.ttl(index) > 86_400
    web.depart(request_, How.ERROR)

    assert not redis_client.exists(index)
