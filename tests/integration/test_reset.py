"""A connection that is reset after its answer: whether its client has read it, and what the next equal request gets."""

from __future__ import annotations

import json
import socket
import struct
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests import running
from tests.integration.test_pipeline import batches_of
from tests.relay.wire import Caller
from tests.running import RedisServer, Stack, until
from tests.simulator.server import Simulator
from web.answer import RESET_SECONDS


@pytest.fixture(scope="module")
def one(redis_server: RedisServer, shared_upstream: Simulator) -> Iterator[Stack]:
    """A stack with one web process, which notes what departs in the order in which it does."""
    with running.running_stack(redis_server.url, shared_upstream.url, LLM_PROXY_WEB_PROCESSES="1") as stack:
        yield stack


def asked(stack: Stack, model: str, **more: Any) -> Caller:
    """A caller whose answer has begun to come."""
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "q"}], **more}).encode()
    caller = Caller(stack.port)
    caller.send(
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer sk-reset\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    )
    caller.sock.recv(1, socket.MSG_PEEK)
    return caller


def reset(caller: Caller) -> None:
    caller.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    caller.close()


def lines(upstream: Simulator, model: str) -> int:
    return sum(int(str(batch["lines"])) for batch in batches_of(upstream, model))


def is_orphan(redis: Any, task_id: str) -> bool:
    keys = redis.scan_iter("lp:equal:*", count=1000, _type="string")
    known = [(redis.get(key) or b"").decode() for key in keys]
    return any(0 <= float(value.split()[1]) < 1 for value in known if value.startswith(task_id))


def given_up(stack: Stack, redis: Any, model: str) -> None:
    """A caller resets its connection instead of reading its answer, and the front has noticed."""
    caller = asked(stack, model)
    [task_id] = [
        line.split(": ")[1]
        for line in caller.sock.recv(10_000, socket.MSG_PEEK).decode().split("\r\n")
        if line.lower().startswith("x-batch-task-id")
    ]
    reset(caller)
    until(lambda: is_orphan(redis, task_id), "the front has noticed")


def test_an_answer_that_was_not_read_is_the_next_equal_requests(
    one: Stack, redis_server: RedisServer, upstream: Simulator
) -> None:
    given_up(one, redis_server.client, "reset-unread")

    assert asked(one, "reset-unread").answer().status == 200
    assert lines(upstream, "reset-unread") == 1


def test_a_stream_is_closed_at_its_last_event_and_the_next_equal_request_is_a_sample_of_its_own(
    one: Stack, redis_server: RedisServer, upstream: Simulator
) -> None:
    caller = asked(one, "reset-stream", stream=True)
    until(lambda: b"[DONE]" in caller.sock.recv(100_000, socket.MSG_PEEK), "the last event is here")
    reset(caller)
    given_up(one, redis_server.client, "reset-after-stream")

    assert asked(one, "reset-stream", stream=True).answer().status == 200
    assert lines(upstream, "reset-stream") == 2


def test_an_idle_connection_that_is_reset_says_nothing_of_its_last_answer(
    one: Stack, redis_server: RedisServer, upstream: Simulator
) -> None:
    caller = asked(one, "reset-idle")
    assert caller.answer().status == 200
    time.sleep(RESET_SECONDS + 1)
    reset(caller)
    given_up(one, redis_server.client, "reset-after-idle")

    assert asked(one, "reset-idle").answer().status == 200
    assert lines(upstream, "reset-idle") == 2
