"""When things happen: first bytes, invitations, early answers, back-pressure."""

from __future__ import annotations

import contextlib
import statistics
import threading
import time
from collections.abc import Callable

import pytest

from tests.relay.raw_upstream import OK, Call, RawUpstream, plain
from tests.relay.wire import Caller, ask
from tests.running import Stack, until

GET = b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n"


def test_events_pass_one_by_one_within_50_ms(
    front: Stack, raw: RawUpstream, record_property: Callable[[str, object], None]
) -> None:
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
    record_property("event_lag_ms", [round(lag * 1000, 1) for lag in (min(lags), statistics.median(lags), max(lags))])

    assert statistics.median(lags) < 0.05, lags


def test_a_small_request_takes_a_few_milliseconds_more(
    front: Stack, raw: RawUpstream, record_property: Callable[[str, object], None]
) -> None:
    def median(port: int) -> float:
        caller, times = Caller(port), []
        for _ in range(200):
            began = time.monotonic()
            caller.send(GET)
            assert caller.answer().status == 200
            times.append(time.monotonic() - began)
        caller.close()
        return statistics.median(times)

    direct, through = median(raw.port), median(front.port)
    record_property("added_ms", round((through - direct) * 1000, 2))

    assert through - direct < 0.02


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
