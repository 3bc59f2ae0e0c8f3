"""Clients that this front does not hold in the end: gone before it began, or refused half-way."""

from __future__ import annotations

import socket
from typing import Any

import gevent
import pytest

from tasks import store
from tasks.departures import How
from tasks.errors import ClientGone, StoreUnavailable
from tasks.models import Attempt, Request
from tasks.settings import settings
from tests.integration.accepting import make_request
from tests.integration.fronts import LATER, Web
from web.waiting import Front


def make_front() -> Front:
    """With the greenlets that take part here, and no other."""
    front = Front(settings())
    front._started = True
    front._acceptor.start()
    front._departures.start()
    return front


@pytest.fixture
def front(redis_client: Any) -> Front:
    return make_front()


def noted(front: Front) -> None:
    """Wait until what departed is in the store."""
    front._departures.flush(10)


def in_time(condition: Any) -> None:
    with gevent.Timeout(10):
        while not condition():
            gevent.sleep(0.01)


def test_a_client_that_is_gone_before_its_request_is_accepted_costs_nothing(front: Front, redis_client: Any) -> None:
    ours, theirs = socket.socketpair()
    theirs.close()

    with pytest.raises(ClientGone):
        front.hold(make_request(), "Bearer sk-x", ours)

    ours.close()
    assert not redis_client.exists("lp:standing")
    assert not front._held


def test_an_orphan_that_was_taken_for_a_client_who_is_then_refused_is_one_again(
    web: Web, front: Front, request_: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    web.depart(request_, How.GONE)

    def unavailable(request_id: str) -> None:
        raise StoreUnavailable("gone", retry_after_seconds=20)

    monkeypatch.setattr(front._results, "look", unavailable)
    with pytest.raises(StoreUnavailable):
        front.hold(make_request(), "Bearer sk-x", None)
    noted(front)

    assert web.retry(Attempt.FIRST) == request_.id


def test_what_a_worker_took_before_it_could_be_taken_back_is_an_orphan(
    web: Web, front: Front, monkeypatch: pytest.MonkeyPatch, redis_client: Any
) -> None:
    run = store.run
    lost: list[str] = []

    def losing(name: str, *args: Any) -> Any:
        done = run(name, *args)
        if name == "accept" and not lost:
            lost.append(name)
            redis_client.hset(f"lp:request:{request.id}", "state", "batched")
            raise StoreUnavailable("the answer was lost", retry_after_seconds=20)
        return done

    request = make_request()
    monkeypatch.setattr(store, "run", losing)
    with pytest.raises(StoreUnavailable):
        front.hold(request, "Bearer sk-x", None)
    in_time(lambda: not front._acceptor._doubtful)

    assert web.retry() == request.id
    assert web.retry() == LATER


def test_a_success_that_was_not_read_is_kept_as_long_as_its_reply(
    web: Web, request_: Request, redis_client: Any
) -> None:
    index = f"lp:equal:{request_.digest}"
    web.depart(request_, How.SUCCESS)
    assert redis_client.ttl(index) <= store.DELIVERED_SECONDS
    web.depart(request_, How.LOST)

    assert redis_client.ttl(index) > settings().result_ttl_seconds - 10


def test_departures_beyond_the_bound_are_counted_and_told(
    web: Web, request_: Request, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("tasks.departures.MOST", 1)
    for _ in range(3):
        web.departures.add(request_.id, request_.digest, How.GONE)
    web.departures.start()
    web.departures.flush(10)

    assert "2 departures were not noted" in caplog.text
    assert web.retry() == request_.id
