"""The sweep finds requests that nobody works on any more, and leaves all others alone."""

from __future__ import annotations

import json
from typing import Any

from tasks import batches, message, settle, store, sweeper
from tasks.models import Group, Lane, Request
from tests.integration.accepting import GROUP, accept, make_request, ok


def test_requests_whose_worker_died_while_sending_are_all_queued_again_by_one_sweep(redis_client: Any) -> None:
    requests = [make_request(lane=Lane.SYNC) for _ in range(20)]
    accept(*requests)
    lose_messages(redis_client, *requests)
    accept(make_request(lane=Lane.SYNC))
    for request in requests:
        assert store.run("run", request.id, "dead", -1, "take", 50)
    for request in requests[:2]:
        assert store.run("run", request.id, "dead", -1, "send", 50)

    sweeper.standing_requests()

    assert redis_client.llen(message.SYNC_QUEUE) == 21
    assert store.run("run", requests[0].id, "alive", 60_000, "take", 50)
    assert not store.run("run", requests[0].id, "second", 60_000, "take", 50)
    assert store.run("run", requests[2].id, "alive", 60_000, "take", 50)
    assert redis_client.hget("lp:stats", "possibly_double_paid") == b"1"  # the third one was not sent


def lose_messages(redis_client: Any, *requests: Request) -> None:
    """As a worker that takes them and dies; the requests are older than whatever is accepted next."""
    redis_client.delete(message.SYNC_QUEUE)
    for request in requests:
        redis_client.hincrby(f"lp:request:{request.id}", "queued", -1)


def test_a_busy_queue_is_not_filled_with_copies_of_what_is_in_it(redis_client: Any) -> None:
    requests = [make_request(lane=Lane.SYNC) for _ in range(20)]
    accept(*requests)
    for _ in range(10):
        for request in requests:
            redis_client.zadd("lp:standing", {request.id: 0})
        sweeper.standing_requests()

    assert redis_client.llen(message.SYNC_QUEUE) == 20


def test_a_request_whose_message_is_gone_is_found_in_a_queue_that_is_never_empty(redis_client: Any) -> None:
    lost = make_request(lane=Lane.SYNC)
    accept(lost)
    lose_messages(redis_client, lost)
    later = make_request(lane=Lane.SYNC)
    accept(later)
    for request in (lost, later):
        redis_client.zadd("lp:standing", {request.id: 0})

    sweeper.standing_requests()
    redis_client.zadd("lp:standing", {lost.id: 0})
    sweeper.standing_requests()

    messages = [json.loads(each) for each in redis_client.lrange(message.SYNC_QUEUE, 0, -1)]
    assert [each["properties"]["correlation_id"] for each in messages] == [lost.id, later.id]


def test_a_queued_request_whose_message_is_gone_is_queued_again_and_one_that_waits_is_not(redis_client: Any) -> None:
    lost, waiting = make_request(), make_request(group=Group(credential="d" * 24, endpoint="/v1/x", model="m"))
    accept(lost, waiting)
    redis_client.delete(message.group_queue(GROUP.id), "lp:groups")
    for request in (lost, waiting):
        redis_client.zadd("lp:standing", {request.id: 0})

    sweeper.standing_requests()

    assert redis_client.llen(message.group_queue(GROUP.id)) == 1
    assert redis_client.llen(message.group_queue(waiting.group.id)) == 1
    assert redis_client.zcard("lp:groups") == 2
    assert batches.claim(GROUP.id)


def test_messages_that_a_dead_worker_held_are_dropped_once_their_work_is_done(redis_client: Any) -> None:
    request = make_request()
    accept(request)
    body = json.loads(message.request_message(request.id, "sync"))
    redis_client.hset("unacked", "tag", json.dumps([body, "", "sync"]))
    redis_client.zadd("unacked_index", {"tag": 1})

    sweeper.settled_messages()
    assert redis_client.hexists("unacked", "tag")

    batch_id = batches.claim(GROUP.id)
    assert batch_id
    settle.settle([(request.id, batch_id, ok())])
    sweeper.settled_messages()
    assert not redis_client.exists("unacked", "unacked_index")
