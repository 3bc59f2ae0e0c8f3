"""A caller with thousands of requests keeps nobody else waiting: not in the queues, nor in any lane."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import gevent
import pytest

from tasks import batches, collector, message, settle
from tasks.models import Group, Lane, Request
from tasks.results import WAKE_AT_ONCE, Results
from tests import running
from tests.integration.accepting import accept, make_request, ok
from tests.integration.test_pipeline import batches_of
from tests.running import RedisServer, Stack, until
from tests.simulator.server import Simulator, serve

CHAT = "/v1/chat/completions"
BATCHES, LINES = 120, 5
#: An upload or download takes so long here.
TRANSFER_SECONDS = 1.0


@pytest.fixture
def ground(_own_redis: RedisServer, redis_client: Any) -> Iterator[tuple[Stack, Simulator, Any]]:
    """Workers without a front: requests are accepted here. Files are slow, and so are looks."""
    with (
        serve(validate_delay=0.05, batch_delay=0.1, finalize_delay=0.05) as upstream,
        running.running_stack(
            _own_redis.url,
            upstream.url,
            only=("worker-control", "worker-transfer", "worker-sync", "beat"),
            LLM_PROXY_MAX_HOLD_SECONDS="0",
            LLM_PROXY_MAX_BATCH_REQUESTS=str(LINES),
            LLM_PROXY_SYNC_CONCURRENCY="5",
        ) as stack,
    ):
        yield stack, upstream, redis_client


def asked(credential: str, count: int, lane: Lane = Lane.BATCH) -> list[Request]:
    group = Group(credential=credential * 24, endpoint=CHAT, model=f"m-{credential}")
    body = b'{"model":"m-%b","messages":[{"role":"user","content":"x"}]}' % credential.encode()
    return [make_request(group=group, body=body, fingerprint=f"{credential}{n}", lane=lane) for n in range(count)]


def unsettled(client: Any, requests: list[Request]) -> int:
    pipeline = client.pipeline(transaction=False)
    for request in requests:
        pipeline.hget(f"lp:request:{request.id}", "state")
    return sum(state != b"settled" for state in pipeline.execute())


def seconds_of(client: Any, requests: list[Request]) -> float:
    """How long ten requests take."""
    began = time.monotonic()
    accept(*requests)
    until(lambda: not unsettled(client, requests), "they are answered", 90)
    return time.monotonic() - began


def test_a_caller_with_many_batches_in_every_lane_does_not_delay_another_ones_ten_requests(
    ground: tuple[Stack, Simulator, Any],
) -> None:
    _, upstream, client = ground
    slow = [
        {"path": "POST /v1/files", "kind": "slow", "seconds": TRANSFER_SECONDS},
        {"path": "GET /v1/files/*/content", "kind": "slow", "seconds": TRANSFER_SECONDS},
        {"path": "GET /v1/batches/*", "kind": "slow", "seconds": TRANSFER_SECONDS / 2},
    ]
    upstream.configure(faults=slow)
    alone = seconds_of(client, asked("a", 10))
    # All batches of the other one end at once.
    upstream.configure(faults=[], ends=[{"model": "m-b", "stuck": "in_progress"}])
    many = asked("b", BATCHES * LINES)
    accept(*many)
    until(lambda: len(batches_of(upstream, "m-b")) == BATCHES, "all are at the upstream", 90)
    upstream.configure(faults=slow)
    upstream.finish()
    until(lambda: unsettled(client, many) < len(many), "the first are answered", 90)

    beside = seconds_of(client, asked("c", 10))

    assert unsettled(client, many) > len(many) / 4, "the many were not under way any more"
    # A tick, and what a busy machine takes; in the order of arrival it would be BATCHES / 8 transfers of a second each.
    assert beside <= alone + BATCHES / 8 * 2 / 3


def test_a_caller_with_many_synchronous_requests_does_not_fill_the_queue(
    ground: tuple[Stack, Simulator, Any],
) -> None:
    _, upstream, client = ground
    upstream.configure(sync_delay=0.2)
    alone = seconds_of(client, asked("a", 3, Lane.SYNC))
    many = asked("b", 3000, Lane.SYNC)
    accept(*many)
    until(lambda: unsettled(client, many) < len(many), "the first are answered")

    beside = seconds_of(client, asked("c", 3, Lane.SYNC))

    assert unsettled(client, many) > 2000
    assert beside <= alone + 6  # a tick, and more for a busy machine; behind all of the others it would be 100 s


def test_every_synchronous_request_is_sent_though_most_never_were_in_the_queue(
    ground: tuple[Stack, Simulator, Any],
) -> None:
    _, upstream, client = ground
    many = asked("b", 300, Lane.SYNC)
    accept(*many)
    assert client.llen(message.SYNC_QUEUE) <= 50

    until(lambda: not unsettled(client, many), "all are answered", 60)

    assert upstream.stats()["sync_most"] <= 5
    assert upstream.stats()["sync_requests"] == 300


def test_groups_are_closed_in_turn_a_batch_of_each(redis_client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from tasks.settings import settings

    monkeypatch.setenv("LLM_PROXY_MAX_BATCH_REQUESTS", "10")
    settings.cache_clear()
    accept(*asked("b", 40))
    accept(*asked("c", 10))

    credentials = [
        redis_client.hget(f"lp:batch:{batch_id}", "credential").decode()[0] for batch_id in collector.collect()
    ]

    assert credentials == ["b", "c", "b", "b", "b"]


def test_who_comes_new_does_not_wait_behind_thousands_of_replies_that_are_being_written(redis_client: Any) -> None:
    """Each step of a newcomer waits for those that were woken before it, and for no more."""
    results, write_seconds, count = Results(), 0.001, 1000
    ids = [f"{n:032x}" for n in range(count)]
    redis_client.mset({f"celery-task-meta-{i}": settle.encode(i, ok()) for i in ids})
    written = 0

    def client(request_id: str) -> None:
        nonlocal written
        results.register(request_id).wait()
        ends = time.monotonic() + write_seconds
        while time.monotonic() < ends:
            pass
        written += 1

    jobs: list[Any] = [gevent.spawn(client, request_id) for request_id in ids]
    gevent.sleep(0)
    jobs.append(gevent.spawn(results._fetch, ids))
    gevent.sleep(0)
    for _ in range(5):  # of a newcomer's steps
        gevent.sleep(0)
    before = written
    gevent.joinall(jobs, timeout=30)

    assert before <= 6 * (WAKE_AT_ONCE + 1)
    assert written == count


def test_replies_are_handed_out_to_each_caller_in_turn(redis_client: Any) -> None:
    many, few = asked("b", 1000), asked("c", 5)
    accept(*many, *few)
    results, order = Results(), list[str]()

    def client(request: Request) -> None:
        results.register(request.id, request.group.credential).wait()
        order.append(request.group.credential[0])

    jobs = [gevent.spawn(client, request) for request in (*many, *few)]
    gevent.sleep(0)
    redis_client.xadd("lp:settled", {"ids": ""})  # the stream is older than this process
    results._last_id = results._newest_id()
    for _ in range(2):  # groups, the larger one first
        for batch_id in collector.collect():
            settle.settle((request_id, batch_id, ok()) for request_id, _ in batches.lines(batch_id))
    while len(order) < 1005:
        results._read()
        gevent.sleep(0)
    gevent.joinall(jobs, timeout=10)

    assert "".join(order).rindex("c") < 5 * WAKE_AT_ONCE
