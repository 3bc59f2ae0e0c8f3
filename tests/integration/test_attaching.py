"""Which request a repetition attaches to, script by script: orphans, retries, what was delivered, what was not."""

from __future__ import annotations

import time
from typing import Any

import gevent
import pytest

from tasks import batches, presence, settle, store
from tasks.accept import Acceptor
from tasks.departures import Departures, How
from tasks.errors import StoreUnavailable
from tasks.models import Attempt, Lane, Request
from tasks.presence import Presence
from tasks.settings import settings
from tests.integration.test_store import GROUP, make_request, ok

#: Nothing is accepted yet: ask again.
LATER = ""


class Web:
    """One web process, as far as the store knows."""

    def __init__(self) -> None:
        self.presence = Presence()
        self.departures = Departures(self.presence)
        self._acceptor = Acceptor(settings(), self.presence)
        self._acceptor.start()

    def ask(self, request: Request) -> str:
        return self._acceptor.accept(request, "Bearer sk-x")

    def retry(self, attempt: Attempt = Attempt.RETRY, **fields: Any) -> str:
        tries = fields.pop("tries", 0 if attempt is Attempt.FIRST else 1)
        return self.ask(make_request(attempt=attempt, tries=tries, **fields))

    def depart(self, request: Request, how: How, task_id: str = "") -> None:
        self.departures._publish([(task_id or request.id, request.digest, how)])


@pytest.fixture(autouse=True)
def _redis(redis_client: Any) -> None:
    pass


@pytest.fixture
def web() -> Web:
    return Web()


@pytest.fixture
def request_(web: Web) -> Request:
    """A request whose client waits."""
    made = make_request()
    assert web.ask(made) == made.id
    return made


def answer(request: Request, status: int = 200) -> None:
    batch_id = batches.claim(GROUP.id)
    assert batch_id
    reply = ok() if status == 200 else settle.error_reply(status, "no", code=None)
    assert settle.settle([(request.id, batch_id, reply)]) == 1


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
