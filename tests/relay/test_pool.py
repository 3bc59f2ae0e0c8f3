"""Connections to the upstream are kept, and never carry one caller's trouble to the next."""

from __future__ import annotations

import concurrent.futures
import random
import time

import pytest

from tests.relay.raw_upstream import OK, Call, RawUpstream, plain
from tests.relay.wire import Caller, ask
from tests.running import Stack

GET = b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST /v1/files HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody"


def test_connections_to_the_upstream_are_kept_and_used_again(front: Stack, raw: RawUpstream) -> None:
    for _ in range(5):
        assert ask(front.port, POST).status == 200

    assert len({call.connection for call in raw.calls}) == 1


@pytest.mark.parametrize("closing", [b"Connection: close\r\n", b""])
def test_a_connection_that_the_upstream_closes_is_not_used_again(
    front: Stack, raw: RawUpstream, closing: bytes
) -> None:
    def handler(call: Call) -> None:
        call.read()
        call.send(OK.replace(b"Content-Type", closing + b"Content-Type"))
        if not closing:
            call.close()

    raw.handler = handler
    for _ in range(5):
        assert ask(front.port, POST).status == 200
        time.sleep(0.05)  # the end of the connection has arrived

    assert len({call.connection for call in raw.calls}) == 5


def dead_on_reuse(call: Call) -> None:
    """As a server that gives up an idle connection in the moment in which it is used again."""
    plain(call)
    call.stream.peek(1)  # type: ignore[attr-defined]  # a BufferedReader
    call.reset()


def test_a_stale_connection_costs_a_repeatable_request_nothing(front: Stack, raw: RawUpstream) -> None:
    raw.handler = dead_on_reuse

    assert [ask(front.port, GET).status for _ in range(6)] == [200] * 6


def test_a_request_that_must_not_run_twice_is_never_sent_twice(front: Stack, raw: RawUpstream) -> None:
    plain_answers: list[int] = []

    def handler(call: Call) -> None:
        call.read()
        if plain_answers:
            call.reset()
        else:
            plain_answers.append(1)
            call.send(OK)

    raw.handler = handler
    assert ask(front.port, POST).status == 200
    assert ask(front.port, POST).status == 502
    time.sleep(0.3)

    assert len(raw.calls) == 2


def test_a_request_that_must_not_run_twice_does_not_meet_a_connection_that_has_idled(
    front: Stack, raw: RawUpstream
) -> None:
    assert ask(front.port, POST).status == 200
    time.sleep(1.1)
    assert ask(front.port, POST).status == 200

    assert raw.call(0).connection != raw.call(1).connection


def test_an_answer_that_says_more_than_its_length_does_not_reach_the_next_caller(
    front: Stack, raw: RawUpstream
) -> None:
    raw.handler = lambda call: call.send(OK + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")

    assert [ask(front.port, GET).body for _ in range(3)] == [b"{}"] * 3


def test_nobody_gets_anothers_answer_however_connections_end(front: Stack, raw: RawUpstream) -> None:
    def handler(call: Call) -> None:
        call.read()
        target = call.head.line.split(b" ")[1]
        number = int(target.rpartition(b"/")[2])
        call.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(target) + number % 3 // 2, target))
        if number % 3 == 2:  # a byte is missing
            call.close()
        elif number % 5 == 0:
            call.close()

    def one(number: int) -> bool:
        target = b"/v1/mine/%d" % number
        method = random.choice([b"GET", b"POST", b"DELETE"])
        request = b"%b %b HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n" % (method, target)
        if number % 7 == 0:  # gone before the answer
            caller = Caller(front.port)
            caller.send(request)
            caller.close()
            return True
        answer = ask(front.port, request)
        if answer.status == 502:  # it met a connection in the moment in which that was closed, and may have run
            return method == b"POST"
        return answer.body == target and answer.whole == (number % 3 != 2)

    raw.handler = handler
    with concurrent.futures.ThreadPoolExecutor(24) as pool:
        right = list(pool.map(one, range(1500)))

    assert all(right)
