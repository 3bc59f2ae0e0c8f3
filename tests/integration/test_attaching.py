"""Which request a repetition attaches to, script by script: orphans, retries, requests that are under way."""

from __future__ import annotations

from typing import Any

import gevent
import pytest

from tasks import batches
from tasks.departures import How
from tasks.models import Attempt, Lane, Request
from tests.integration.accepting import GROUP, make_request
from tests.integration.fronts import LATER, Web, answer


def test_equal_requests_whose_clients_live_are_samples(web: Web, request_: Request) -> None:
    others = [make_request() for _ in range(20)]

    assert [asked.ask(other) for asked, other in zip([web, Web()] * 10, others, strict=True)] == [
        other.id for other in others
    ]


@pytest.mark.parametrize("attempt", [Attempt.FIRST, Attempt.RETRY])
@pytest.mark.parametrize("when", ["queued", "in flight", "settled"])
def test_an_orphan_is_taken_once_by_the_next_equal_request(
    web: Web, request_: Request, attempt: Attempt, when: str
) -> None:
    if when == "in flight":
        assert batches.claim(GROUP.id)
    if when == "settled":
        answer(request_)
    web.depart(request_, How.GONE)

    assert Web().retry(attempt) == request_.id
    other = make_request()
    assert web.ask(other) == other.id


def test_every_client_of_a_dead_front_leaves_an_orphan_and_each_is_taken_once(
    web: Web, redis_client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = [make_request() for _ in range(5)]
    for request in requests:
        web.ask(request)
    next_ = Web()
    assert next_.retry() == LATER
    redis_client.zadd("lp:fronts", {web.presence.number: 1})

    taken = [next_.retry() for _ in range(5)]

    assert sorted(taken) == sorted(request.id for request in requests)
    assert next_.retry() == LATER


def test_a_front_that_leaves_gives_up_all_its_clients_at_once(web: Web, request_: Request) -> None:
    web.presence.leave()

    assert Web().ask(make_request()) == request_.id


@pytest.mark.parametrize(
    "other",
    [{"fingerprint": "f2"}, {"lane": Lane.SYNC}, {"idempotency_key": "k"}],
    ids=["another body", "another lane", "a key"],
)
def test_an_orphan_is_not_taken_by_what_differs(web: Web, request_: Request, other: dict[str, Any]) -> None:
    web.depart(request_, How.GONE)
    request = make_request(**other)

    assert web.ask(request) == request.id


def test_a_retry_waits_for_an_orphan_and_then_shares_the_oldest_unfinished_one(web: Web, request_: Request) -> None:
    gevent.sleep(1.1)  # ages are whole seconds
    younger = make_request()
    web.ask(younger)

    assert web.retry() == LATER
    assert Web().retry(Attempt.JOIN) == request_.id


def test_retries_that_never_reached_us_before_share_no_answer_with_one_another(web: Web, request_: Request) -> None:
    assert web.retry(Attempt.JOIN) == request_.id
    others = [make_request(attempt=Attempt.JOIN, tries=1) for _ in range(10)]

    assert [web.ask(other) for other in others] == [other.id for other in others]


def test_retries_whose_clients_seem_to_live_each_share_a_request_of_their_own(web: Web) -> None:
    requests = [make_request() for _ in range(30)]
    for request in requests:
        web.ask(request)

    shared = [Web().retry(Attempt.JOIN) for _ in requests]
    again = [web.retry(Attempt.JOIN, tries=2) for _ in requests]

    assert sorted(shared) == sorted(again) == sorted(request.id for request in requests)


def test_a_retry_without_anything_to_repeat_is_new(web: Web) -> None:
    request = make_request(attempt=Attempt.RETRY, tries=1)

    assert web.ask(request) == request.id
