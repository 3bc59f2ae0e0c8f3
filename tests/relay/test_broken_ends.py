"""Callers that go away, upstreams that break off, fall silent, or cannot be reached: nobody takes it for an end."""

from __future__ import annotations

import json
import signal
import socket
import threading
import time
from collections.abc import Callable

import pytest

from tests import running
from tests.relay.conftest import PATIENCE_SECONDS
from tests.relay.raw_upstream import OK, Call, RawUpstream
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
    front: Stack,
    raw: RawUpstream,
    begin: bytes,
    request_bytes: bytes,
    reset: bool,
    record_property: Callable[[str, object], None],
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
    took = time.monotonic() - gone_at
    record_property("gone_after_ms", round(took * 1000))
    assert took < 2


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
    began = time.monotonic()
    answer = ask(front.port, GET, closes=True)

    assert answer.body == b"half"
    assert not answer.whole
    assert answer.closed
    assert time.monotonic() - began < 5  # an idle connection is closed after 10 s


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


def test_a_process_that_is_told_to_stop_finishes_what_it_relays(redis_server: RedisServer, raw: RawUpstream) -> None:
    told = threading.Event()

    def handler(call: Call) -> None:
        told.wait(10)
        call.send(OK)

    raw.handler = handler
    with running.running_stack(redis_server.url, raw.url, only=("web",), LLM_PROXY_WEB_PROCESSES="1") as stack:
        caller = Caller(stack.port)
        caller.send(GET)
        raw.call()
        stack.processes["web"].popen.send_signal(signal.SIGTERM)
        until(lambda: refused(stack.port), "nobody is let in any more")
        told.set()
        answer = caller.answer()
        caller.close()

    assert answer.whole
    assert answer.head.values(b"connection") == [b"close"]


def refused(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except ConnectionRefusedError:
        return True
    return False


def test_a_caller_that_has_its_answer_may_finish_its_body(front: Stack, raw: RawUpstream) -> None:
    def handler(call: Call) -> None:
        call.stream.read(4)  # the way up waits for the rest
        call.send(b"HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno")
        call.wait_for_end()

    raw.handler = handler
    with socket.create_connection(("127.0.0.1", front.port), timeout=20) as caller:
        caller.sendall(b"POST /v1/unfinished HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\nbody")
        answer = caller.recv(10_000)
        assert answer.startswith(b"HTTP/1.1 403 ")
        while chunk := caller.recv(10_000):  # to the end of the answer
            answer += chunk
        caller.sendall(bytes(50_000))
        caller.sendall(bytes(50_000 - 4))  # a reset would be heard here at the latest
    assert answer.endswith(b"no")
    until(lambda: "path=/v1/unfinished" in front.logs(), "it is logged")
    assert "msg=relayed method=POST path=/v1/unfinished status=403" in front.logs()
