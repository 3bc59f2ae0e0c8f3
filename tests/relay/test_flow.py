"""When things happen: first bytes, back-pressure, broken ends, silent upstreams, connections kept and given up."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time

import pytest

from tests import running
from tests.relay.conftest import PATIENCE_SECONDS
from tests.relay.raw_upstream import OK, Call, RawUpstream, plain
from tests.relay.wire import Answer, Caller, ask
from tests.running import RedisServer, Stack, until

GET = b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST /v1/files HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody"
HALF = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"
HALF_CHUNK = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"
HALF_OPEN = b"HTTP/1.1 200 OK\r\n\r\nhalf"


def error_of(answer: Answer) -> dict[str, object]:
    error: dict[str, object] = json.loads(answer.body)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return error


def test_events_pass_one_by_one_within_50_ms(front: Stack, raw: RawUpstream) -> None:
    sent: list[float] = []
    read = threading.Semaphore(0)

    def handler(call: Call) -> None:
        call.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for number in range(20):
            read.acquire(timeout=10)  # the caller has the one before: nothing waits for a later one
            event = b"data: %d\n\n" % number
            sent.append(time.monotonic())
            call.send(b"%x\r\n%b\r\n" % (len(event), event))
        call.send(b"0\r\n\r\n")

    raw.handler = handler
    caller = Caller(front.port)
    caller.send(GET)
    caller.head()
    lags = []
    for number in range(20):
        read.release()
        assert caller.stream.readline() == (b"9\r\n" if number < 10 else b"a\r\n")
        lags.append(time.monotonic() - sent[number])
        assert caller.stream.readline() == b"data: %d\n" % number
        assert caller.stream.readline() + caller.stream.readline() == b"\n\r\n"
    caller.close()

    assert sorted(lags)[len(lags) // 2] < 0.05, lags


def test_a_head_without_a_body_yet_is_passed_on_at_once(front: Stack, raw: RawUpstream) -> None:
    go = threading.Event()

    def handler(call: Call) -> None:
        call.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n")
        go.wait(10)
        call.send(b"x")

    raw.handler = handler
    caller = Caller(front.port)
    caller.send(GET)
    assert caller.head().line == b"HTTP/1.1 200 OK"
    go.set()
    assert caller.stream.read(1) == b"x"
    caller.close()


def test_an_upload_passes_piece_by_piece_and_may_be_answered_meanwhile(front: Stack, raw: RawUpstream) -> None:
    def handler(call: Call) -> None:
        call.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for piece in call.pieces():
            call.send(b"%x\r\n%b\r\n" % (len(piece), piece))
        call.send(b"0\r\n\r\n")

    raw.handler = handler
    caller = Caller(front.port)
    caller.send(b"POST /v1/x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
    caller.head()
    for word in (b"one", b"two"):
        caller.send(b"3\r\n%b\r\n" % word)
        assert [caller.stream.readline(), caller.stream.readline()] == [b"3\r\n", word + b"\r\n"]
    caller.send(b"0\r\n\r\n")
    assert caller.stream.readline() == b"0\r\n"
    caller.close()


@pytest.mark.parametrize(
    ("begin", "request_bytes"),
    [
        (b"", GET),
        (b"", POST),
        (b"", b"POST /v1/x HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf"),
        (b"", b"POST /v1/x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"),
        (HALF, GET),
        (HALF_CHUNK, GET),
    ],
    ids=["silent", "silent after a body", "in the body", "in the chunks", "in the answer", "in the answer's chunks"],
)
@pytest.mark.parametrize("reset", [False, True])
def test_a_caller_that_goes_away_takes_the_upstreams_connection_along_within_2_s(
    front: Stack, raw: RawUpstream, begin: bytes, request_bytes: bytes, reset: bool
) -> None:
    def handler(call: Call) -> None:
        call.send(begin)
        call.wait_for_end()

    raw.handler = handler
    caller = Caller(front.port)
    caller.send(request_bytes)
    call = raw.call()
    if begin:
        caller.head()
    if reset:
        caller.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    gone_at = time.monotonic()
    caller.close()

    assert call.gone.wait(10)
    assert time.monotonic() - gone_at < 2


@pytest.mark.parametrize("begin", [HALF, HALF_CHUNK])
@pytest.mark.parametrize("how", ["close", "reset", "garbage"])
def test_an_answer_cut_midway_is_cut_for_the_caller_too(front: Stack, raw: RawUpstream, begin: bytes, how: str) -> None:
    def handler(call: Call) -> None:
        call.send(begin)
        if how == "garbage" and b"chunked" in begin:
            call.send(b"not a size\r\n")
        elif how == "reset":
            time.sleep(0.1)  # a reset takes along what has not been read yet
            call.reset()
        call.close()

    raw.handler = handler
    answer = ask(front.port, GET, closes=True)

    assert answer.body == b"half"
    assert not answer.whole
    assert answer.closed


def test_an_answer_without_a_length_that_is_reset_is_no_clean_end_for_an_old_client(
    front: Stack, raw: RawUpstream
) -> None:
    def handler(call: Call) -> None:
        call.send(HALF_OPEN)
        time.sleep(0.2)
        call.reset()

    raw.handler = handler

    assert not ask(front.port, b"GET /v1/x HTTP/1.0\r\n\r\n").whole
    assert not ask(front.port, GET).whole


def test_a_silent_upstream_is_a_504_and_its_connection_is_closed(front: Stack, raw: RawUpstream) -> None:
    raw.handler = lambda call: call.wait_for_end()
    began = time.monotonic()
    answer = ask(front.port, POST)

    assert answer.status == 504
    assert error_of(answer)["code"] == "upstream_timeout"
    assert PATIENCE_SECONDS - 0.1 < time.monotonic() - began < PATIENCE_SECONDS + 3
    assert raw.call().gone.wait(5)


def test_an_upstream_that_falls_silent_in_its_answer_is_cut(front: Stack, raw: RawUpstream) -> None:
    def handler(call: Call) -> None:
        call.send(HALF_CHUNK)
        call.wait_for_end()

    raw.handler = handler
    answer = ask(front.port, GET, closes=True)

    assert not answer.whole
    assert answer.closed


def test_a_caller_that_falls_silent_in_its_body_is_answered_400_not_504(front: Stack, raw: RawUpstream) -> None:
    raw.handler = lambda call: call.wait_for_end()
    answer = ask(front.port, b"POST /v1/x HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf", closes=True)

    assert answer.status == 400
    assert raw.call().gone.wait(5)


@pytest.mark.parametrize("answer_bytes", [b"", b"SSH-2.0-no\r\n\r\n", b"HTTP/1.1 101 Switching\r\n\r\n", b"HTTP/1.1 2"])
def test_an_upstream_that_does_not_answer_in_http_is_a_502(front: Stack, raw: RawUpstream, answer_bytes: bytes) -> None:
    def handler(call: Call) -> None:
        call.read()
        call.send(answer_bytes)
        call.close()

    raw.handler = handler
    answer = ask(front.port, POST)

    assert answer.status == 502
    assert error_of(answer)["code"] == "upstream_unreachable"


def test_an_upstream_that_cannot_be_reached_is_a_502_and_one_that_does_not_take_us_a_504(
    redis_server: RedisServer,
) -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        port = full.getsockname()[1]
        with running.running_stack(
            redis_server.url,
            f"http://127.0.0.1:{port}",
            only=("web",),
            LLM_PROXY_WEB_PROCESSES="1",
            LLM_PROXY_UPSTREAM_TIMEOUT_SECONDS="1",
        ) as stack:
            refused = ask(stack.port, GET)
            full.listen(0)
            fillers = [socket.socket() for _ in range(4)]
            for filler in fillers:
                filler.setblocking(False)
                filler.connect_ex(("127.0.0.1", port))
            began = time.monotonic()
            late = ask(stack.port, GET)
            took = time.monotonic() - began
            for filler in fillers:
                filler.close()

    assert (refused.status, error_of(refused)["code"]) == (502, "upstream_unreachable")
    assert (late.status, error_of(late)["code"]) == (504, "upstream_timeout")
    assert took < 5


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


def test_an_early_refusal_is_heard_and_ends_the_connection(front: Stack, raw: RawUpstream) -> None:
    def handler(call: Call) -> None:
        call.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
        call.wait_for_end()

    raw.handler = handler
    caller = Caller(front.port)
    caller.send(b"POST /v1/files HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n" + b"x" * 10_000)
    answer = caller.answer()
    closed = caller.closed()
    caller.close()

    assert (answer.status, answer.body) == (413, b"no")
    assert answer.head.values(b"connection") == [b"close"]
    assert closed
    assert raw.call().gone.wait(5)


def test_expect_100_continue_is_the_upstreams_to_answer(front: Stack, raw: RawUpstream) -> None:
    may = threading.Event()

    def handler(call: Call) -> None:
        may.wait(10)
        call.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        plain(call)

    raw.handler = handler
    caller = Caller(front.port)
    caller.send(b"POST /v1/x HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
    call = raw.call()
    caller.sock.settimeout(0.3)
    with pytest.raises(TimeoutError):
        caller.sock.recv(1)  # nobody has invited yet
    caller.sock.settimeout(20)
    caller.stream = caller.sock.makefile("rb")
    may.set()
    assert caller.head().line == b"HTTP/1.1 100 Continue"
    caller.send(b"body")

    assert caller.answer().status == 200
    assert call.head.values(b"expect") == [b"100-continue"]
    assert call.body == b"body"
    caller.close()


def test_an_expectation_refused_sends_no_body(front: Stack, raw: RawUpstream) -> None:
    raw.handler = lambda call: call.send(b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n")
    caller = Caller(front.port)
    caller.send(b"POST /v1/x HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
    head = caller.head()

    assert head.line == b"HTTP/1.1 401 No"
    assert caller.closed()
    caller.close()


def test_a_caller_that_sends_without_waiting_for_the_invitation_is_served(front: Stack, raw: RawUpstream) -> None:
    answer = ask(front.port, b"POST /v1/x HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\nbody")

    assert answer.status == 200
    assert raw.call().body == b"body"


def test_a_batched_endpoint_invites_the_body_itself(front: Stack) -> None:
    caller = Caller(front.port)
    caller.send(
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer k\r\n"
        b"Expect: 100-continue\r\nContent-Length: 4\r\n\r\n"
    )
    assert caller.head().line == b"HTTP/1.1 100 Continue"
    caller.send(b"oops")
    assert caller.answer().status == 400
    caller.close()


def test_a_body_refused_by_its_length_is_never_invited(front: Stack) -> None:
    caller = Caller(front.port)
    caller.send(
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer k\r\n"
        b"Expect: 100-continue\r\nContent-Length: 99999999999\r\n\r\n"
    )
    head = caller.head()
    assert head.line.split(b" ")[1] == b"413"
    assert head.values(b"connection") == [b"close"]
    caller.close()


def test_early_hints_are_passed_on(front: Stack, raw: RawUpstream) -> None:
    raw.handler = lambda call: call.send(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + OK)
    caller = Caller(front.port)
    caller.send(GET)

    assert caller.head().headers == [(b"Link", b"</x>")]
    assert caller.answer().status == 200
    caller.close()


def test_a_slow_reader_slows_the_upstream_down(front: Stack, raw: RawUpstream) -> None:
    sent = [0]

    def handler(call: Call) -> None:
        size = 200_000_000
        call.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        while sent[0] < size:
            call.send(b"x" * 1_000_000)
            sent[0] += 1_000_000

    raw.handler = handler
    caller = Caller(front.port)
    caller.send(GET)
    caller.head()
    until(lambda: sent[0] > 1_000_000, "something is on its way")
    time.sleep(1.5)

    assert sent[0] < 40_000_000  # what the kernel's buffers hold
    caller.close()


def test_a_slow_upstream_slows_the_caller_down(front: Stack, raw: RawUpstream) -> None:
    raw.handler = lambda call: time.sleep(3)
    caller = Caller(front.port)
    caller.sock.settimeout(1.5)
    caller.send(b"POST /v1/files HTTP/1.1\r\nHost: x\r\nContent-Length: 200000000\r\n\r\n")
    sent = 0
    with contextlib.suppress(TimeoutError):
        while sent < 200_000_000:
            sent += caller.sock.send(b"x" * 100_000)

    assert sent < 40_000_000
    caller.close()
