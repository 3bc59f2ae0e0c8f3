"""The scripts, one by one: compare-and-set, repetition, and what they leave behind."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import gevent
import pytest

from tasks import batches, collector, leases, message, settle, store, sync
from tasks.errors import IdempotencyConflict, StoreUnavailable
from tasks.models import BatchState, Group, Lane
from tasks.providers import registry
from tasks.results import Results
from tasks.settings import settings
from tests.integration.accepting import GROUP, accept, make_request, ok


@pytest.fixture(autouse=True)
def _redis(redis_client: Any) -> None:
    pass


def test_a_request_is_accepted_once_however_often_the_script_runs(redis_client: Any) -> None:
    request = make_request()
    assert accept(request) == [request.id]
    assert accept(request) == [request.id]

    assert redis_client.llen(message.group_queue(GROUP.id)) == 1
    assert redis_client.hget("lp:stats", "requests_total") == b"1"


def test_a_queued_request_costs_little_more_than_its_body(redis_client: Any) -> None:
    body = b'{"model":"m","x":"' + b"x" * 1000 + b'"}'
    accept(*(make_request(body=body) for _ in range(10)))

    def used() -> int:
        """Memory of the data: connections' buffers and the scripting engine do not grow with it."""
        memory = redis_client.info("memory")
        return int(memory["used_memory"] - memory["mem_clients_normal"] - memory["used_memory_vm_total"])

    before = used()
    for _ in range(10):
        accept(*(make_request(body=body) for _ in range(500)))
    each = (used() - before) / 5000

    assert each <= 1.5 * len(body) + 1000


def test_an_idempotency_key_gives_the_first_request_or_a_conflict() -> None:
    first = make_request(idempotency_key="k")
    accept(first)

    assert accept(make_request(idempotency_key="k")) == [first.id]
    with pytest.raises(IdempotencyConflict):
        accept(make_request(idempotency_key="k", fingerprint="f2"))


def test_who_is_refused_for_a_key_that_is_taken_does_not_share_its_request() -> None:
    first = make_request(idempotency_key="k")
    accept(first)
    with pytest.raises(IdempotencyConflict):
        accept(make_request(idempotency_key="k", fingerprint="f2"))

    assert store.run("withdraw", "requests_total", first.id) == 1


def test_a_claim_takes_the_oldest_requests_in_order_and_leaves_the_rest(
    redis_client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLM_PROXY_MAX_BATCH_REQUESTS", "2")
    settings.cache_clear()
    requests = [make_request() for _ in range(5)]
    for request in requests:
        accept(request)

    made = list(collector.collect())

    ids = [[request_id for request_id, _ in batches.lines(batch_id)] for batch_id in made]
    assert ids == [[r.id for r in requests[:2]], [r.id for r in requests[2:4]], [requests[4].id]]
    assert not redis_client.exists("lp:groups")


def test_requests_of_a_group_that_has_outlived_its_description_are_answered_and_leave_nothing(
    redis_client: Any,
) -> None:
    request, other = make_request(), make_request(group=Group(credential="d" * 24, endpoint="/v1/x", model="m"))
    accept(request, other)
    redis_client.delete(f"lp:group:{GROUP.id}")

    assert len(list(collector.collect())) == 1

    reply = settle.decode(redis_client.get(f"celery-task-meta-{request.id}"), "")
    assert (reply.status, json.loads(reply.body)["error"]["code"]) == (401, "credential_lost")
    assert not redis_client.exists(f"lp:group:{GROUP.id}", f"lp:body:{request.id}", message.group_queue(GROUP.id))
    list(collector.collect())
    assert not redis_client.exists("lp:groups")


def test_a_foreign_message_in_a_groups_queue_harms_nobody(redis_client: Any) -> None:
    request = make_request()
    accept(request)
    redis_client.rpush(message.group_queue(GROUP.id), "hello", '{"correlation_id": "abc"}')

    batch_id = batches.claim(GROUP.id)

    assert batch_id
    assert [request_id for request_id, _ in batches.lines(batch_id)] == [request.id]


def test_only_the_owner_settles_and_only_once(redis_client: Any) -> None:
    request = make_request()
    accept(request)
    batch_id = batches.claim(GROUP.id)
    assert batch_id

    assert settle.settle([(request.id, "somebody", ok())]) == 0
    assert settle.settle([(request.id, batch_id, ok(b'"first"'))]) == 1
    assert settle.settle([(request.id, batch_id, ok(b'"second"'))]) == 0

    stored = redis_client.get(f"celery-task-meta-{request.id}")
    assert settle.decode(stored, "").body == b'"first"'
    assert redis_client.hget("lp:stats", "requests_successful") == b"1"
    assert not redis_client.exists(f"lp:body:{request.id}", "lp:standing")


def test_a_requeued_request_is_nobodys_and_can_be_claimed_again() -> None:
    request = make_request()
    accept(request)
    first = batches.claim(GROUP.id)
    assert first
    assert settle.requeue([request.id], first, message.group_queue(GROUP.id), counter="attempts") == 1
    assert settle.requeue([request.id], first, message.group_queue(GROUP.id), counter="attempts") == 0

    second = batches.claim(GROUP.id)

    assert second
    assert settle.settle([(request.id, first, ok())]) == 0
    assert settle.settle([(request.id, second, ok())]) == 1


def test_requests_that_are_queued_again_are_taken_first_and_in_their_order(redis_client: Any) -> None:
    several = [make_request() for _ in range(3)]
    for request in several:
        accept(request)
    first = batches.claim(GROUP.id)
    assert first
    later = make_request()
    accept(later)

    settle.requeue([request.id for request in several], first, message.group_queue(GROUP.id))

    second = batches.claim(GROUP.id)
    assert second
    assert [request_id for request_id, _ in batches.lines(second)] == [*(r.id for r in several), later.id]


def test_a_request_that_waited_too_long_is_let_go_although_its_group_pauses_and_others_came_since(
    redis_client: Any,
) -> None:
    old = make_request()
    accept(old)
    first = batches.claim(GROUP.id)
    assert first
    accept(make_request())
    redis_client.hset(f"lp:request:{old.id}", "accepted", 1)
    settle.requeue([old.id], first, message.group_queue(GROUP.id), delay_seconds=3600)
    redis_client.rpush(message.group_queue(GROUP.id), message.request_message("e" * 32, message.group_queue(GROUP.id)))

    late = batches.claim(GROUP.id)

    assert late
    assert [request_id for request_id, _ in batches.lines(late)] == [old.id]
    assert batches.claim(GROUP.id) is None


def test_a_reply_that_was_paid_for_is_stored_however_long_redis_is_away(
    redis_client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = make_request(lane=Lane.SYNC)
    accept(request)
    away = iter([True] * 100 + [False])
    store_them = settle.settle

    def settle_when_back(replies: Any) -> int:
        if next(away):
            raise StoreUnavailable("gone", retry_after_seconds=20)
        return store_them(replies)

    monkeypatch.setattr(registry, "upstream", lambda group: SimpleNamespace(send=lambda body, seconds: ok()))
    monkeypatch.setattr(settle, "settle", settle_when_back)
    monkeypatch.setattr(sync, "SETTLE_SECONDS", 0.0)

    assert sync.send(request.id) is None

    assert redis_client.hget(f"lp:request:{request.id}", "state") == b"settled"


def test_the_pace_of_creation_is_forgotten_although_it_is_begun_by_a_second_try(redis_client: Any) -> None:
    accept(make_request())
    batch_id = batches.claim(GROUP.id)
    assert batch_id
    redis_client.hset(f"lp:batch:{batch_id}", mapping={"state": "uploading", "creates": 1})
    redis_client.delete(f"lp:creations:{GROUP.credential}")

    with leases.lease(batch_id, BatchState.UPLOADING) as held:
        held.advance(BatchState.CREATING)

    assert redis_client.ttl(f"lp:creations:{GROUP.credential}") > 0


def test_a_reader_that_fell_behind_a_trimmed_stream_still_finds_its_reply(redis_client: Any) -> None:
    results = Results()
    request = make_request()
    accept(request)
    batch_id = batches.claim(GROUP.id)
    assert batch_id
    redis_client.xadd("lp:settled", {"ids": ""})
    results._last_id = redis_client.xrevrange("lp:settled", count=1)[0][0].decode()
    waiter = results.register(request.id)
    settle.settle([(request.id, batch_id, ok(b'"found"'))])
    redis_client.xtrim("lp:settled", maxlen=0, approximate=False)
    redis_client.xadd("lp:settled", {"ids": ""})

    results._read()

    reply = waiter.wait(1)
    assert reply
    assert reply.body == b'"found"'
    assert not results.waiting()


def test_a_doubtful_request_is_taken_back_unless_somebody_attached_to_it(redis_client: Any) -> None:
    alone, shared = make_request(idempotency_key="a"), make_request(idempotency_key="b")
    accept(alone, shared)
    accept(make_request(idempotency_key="b"))

    assert store.run("withdraw", "requests_total", alone.id, shared.id, "f" * 32) == 1

    assert not redis_client.exists(f"lp:request:{alone.id}", f"lp:body:{alone.id}")
    batch_id = batches.claim(GROUP.id)
    assert batch_id
    assert [request_id for request_id, _ in batches.lines(batch_id)] == [shared.id]


def test_an_accept_whose_answer_is_lost_is_refused_and_taken_back(
    redis_client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = store.run
    lost: list[str] = []

    def losing(name: str, *args: Any) -> Any:
        answer = run(name, *args)
        if name == "accept" and not lost:
            lost.append(name)
            raise StoreUnavailable("the answer was lost", retry_after_seconds=20)
        return answer

    monkeypatch.setattr(store, "run", losing)
    request = make_request()
    with pytest.raises(StoreUnavailable):
        accept(request)
    assert redis_client.exists(f"lp:request:{request.id}")

    with gevent.Timeout(5):
        while redis_client.exists(f"lp:request:{request.id}"):
            gevent.sleep(0.05)  # the publisher takes it back without waiting for another request

    assert batches.claim(GROUP.id) is None


def test_a_claim_whose_answer_was_lost_takes_nothing_more(redis_client: Any) -> None:
    accept(make_request())
    arguments = (GROUP.id, "b" * 32, 1, 1_000_000, 50_000, 0, 1000, 60_000, 2000, 3_600_000, 5)
    assert store.run("claim", *arguments) == 1
    accept(make_request())

    assert store.run("claim", *arguments) == 1

    assert len(batches.lines("b" * 32)) == 1
    assert redis_client.llen(message.group_queue(GROUP.id)) == 1
