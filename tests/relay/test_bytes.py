"""Whatever HTTP lets a proxy keep is kept: target, headers, status, bodies."""

from __future__ import annotations

import gzip
import os

import pytest

from tests.relay.raw_upstream import Call, RawUpstream
from tests.relay.wire import Caller, Head, ask
from tests.running import Stack

AUTH = b"Authorization: Bearer sk-raw\r\n"


def get(target: bytes, headers: bytes = b"", method: bytes = b"GET") -> bytes:
    return method + b" " + target + b" HTTP/1.1\r\nHost: proxy\r\n" + headers + b"\r\n"


def without_host(head: Head) -> list[tuple[bytes, bytes]]:
    return [(name, value) for name, value in head.headers if name.lower() != b"host"]


@pytest.mark.parametrize(
    "target",
    [
        b"/v1/models",
        b"/v1/a%2Fb%2fc//d/../e/./f",
        b"/v1/x?b=2&a=1&b=2&c&=d&e=%20+%2B&a=",
        b"/v1/x?",
        b"/v1/x??y=?#frag",
        b"//elsewhere.example/v1/models",
        b"/../../etc/passwd",
        b"/%2e%2e/%2F%2Felsewhere.example/",
        b"/v1/%00%ff%0a%0d",
        b"/v1/;p=1/@:!$&'()*+,~",
        b'/v1/<>"{}|\\^`[]',
        b"/v1/" + b"x" * 8000,
        b"/",
        b"/v1/chat%2Fcompletions",
        b"/%73tats",
        b"/stats/",
    ],
)
def test_a_target_arrives_as_it_was_sent(front: Stack, raw: RawUpstream, target: bytes) -> None:
    assert ask(front.port, get(target)).status == 200

    call = raw.call()
    assert call.head.line == b"GET " + target + b" HTTP/1.1"
    assert call.head.values(b"host") == [f"127.0.0.1:{raw.port}".encode()]


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (b"http://elsewhere.example/v1/models?x=%2f", b"/v1/models?x=%2f"),
        (b"https://user:pw@elsewhere.example:1/%2e%2e//x", b"/%2e%2e//x"),
        (b"http://elsewhere.example", b"/"),
        (b"http://elsewhere.example?x=1", b"/?x=1"),
        (b"ftp://elsewhere.example//x", b"//x"),
    ],
)
def test_an_absolute_target_stays_on_the_upstream(
    front: Stack, raw: RawUpstream, target: bytes, expected: bytes
) -> None:
    assert ask(front.port, get(target)).status == 200

    assert raw.call().head.line == b"GET " + expected + b" HTTP/1.1"
    assert raw.call().head.values(b"host") == [f"127.0.0.1:{raw.port}".encode()]


@pytest.mark.parametrize(
    "method", [b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"TRACE", b"PURGE", b"M-SEARCH", b"x"]
)
def test_every_method_is_relayed(front: Stack, raw: RawUpstream, method: bytes) -> None:
    assert ask(front.port, get(b"/v1/x", method=method)).status == 200
    assert raw.call().head.line == method + b" /v1/x HTTP/1.1"


def test_options_of_everything_is_relayed(front: Stack, raw: RawUpstream) -> None:
    assert ask(front.port, get(b"*", method=b"OPTIONS")).status == 200
    assert raw.call().head.line == b"OPTIONS * HTTP/1.1"


def test_request_headers_keep_order_spelling_and_repetition(front: Stack, raw: RawUpstream) -> None:
    ask(
        front.port,
        get(
            b"/v1/models",
            AUTH + b"X-One: 1\r\nx-ONE:  2 \r\nx_under_score: kept\r\nX-Empty:\r\nX-Latin: \xe9\xff\r\n"
            b"Cookie: a=1\r\nX-One: 3\r\nCookie: b=2\r\nAccept-Encoding: gzip, br\r\nUser-Agent: u\tv\r\n"
            b"X-Forwarded-Proto: https\r\nX-Forwarded-Ssl: off\r\nSCRIPT_NAME: /x\r\nProxy: http://evil\r\n",
        ),
    )

    assert without_host(raw.call().head) == [
        (b"Authorization", b"Bearer sk-raw"),
        (b"X-One", b"1"),
        (b"x-ONE", b"2"),
        (b"x_under_score", b"kept"),
        (b"X-Empty", b""),
        (b"X-Latin", b"\xe9\xff"),
        (b"Cookie", b"a=1"),
        (b"X-One", b"3"),
        (b"Cookie", b"b=2"),
        (b"Accept-Encoding", b"gzip, br"),
        (b"User-Agent", b"u\tv"),
        (b"X-Forwarded-Proto", b"https"),
        (b"X-Forwarded-Ssl", b"off"),
        (b"SCRIPT_NAME", b"/x"),
        (b"Proxy", b"http://evil"),
    ]


@pytest.mark.parametrize("host", [b"", b"a b", b"\xfc:99999", b"a/b@c", b"[::1", b"x" * 5000, b"elsewhere.example"])
def test_no_host_of_the_callers_matters(front: Stack, raw: RawUpstream, host: bytes) -> None:
    assert ask(front.port, b"GET /v1/models HTTP/1.1\r\nHost: %b\r\n\r\n" % host).status == 200
    assert raw.call().head.values(b"host") == [f"127.0.0.1:{raw.port}".encode()]


def test_headers_of_the_connection_and_our_own_stay_here(front: Stack, raw: RawUpstream) -> None:
    ask(
        front.port,
        get(
            b"/v1/models",
            b"Connection: keep-alive, X-Mine\r\nX-Mine: 1\r\nconnection: x-other\r\nX-Other: 2\r\nKeep-Alive: 5\r\n"
            b"TE: trailers\r\nTrailer: x\r\nUpgrade: h2c\r\nProxy-Authorization: x\r\nProxy-Connection: x\r\n"
            b"Idempotency-Key: k\r\nX-Batch-Mode: sync\r\nX-Batch-Max-Wait: 5\r\nX-Kept: 3\r\n",
        ),
    )

    assert without_host(raw.call().head) == [(b"X-Kept", b"3")]


def test_a_body_cannot_be_hidden_by_naming_its_length_a_header_of_the_connection(
    front: Stack, raw: RawUpstream
) -> None:
    ask(front.port, get(b"/v1/x", b"Connection: content-length\r\nContent-Length: 3\r\n", b"POST") + b"abc")

    assert raw.call().head.values(b"content-length") == [b"3"]
    assert raw.call().body == b"abc"


def test_status_reason_and_answer_headers_come_back_as_they_were(front: Stack, raw: RawUpstream) -> None:
    def handler(call: Call) -> None:
        call.send(
            b"HTTP/1.1 299 Quite \xe9 Fine\r\nServer: theirs\r\nDate: then\r\nset-cookie: a=1\r\nX-b: 1\r\n"
            b"Set-Cookie: b=2; Path=/\r\nx-B: 2\r\nX_under: 3\r\nConnection: X-Hop\r\nX-Hop: 4\r\nKeep-Alive: 5\r\n"
            b"Content-Length: 3\r\nX-Empty:\r\n\r\nabc"
        )

    raw.handler = handler
    answer = ask(front.port, get(b"/v1/models"))

    assert answer.head.line == b"HTTP/1.1 299 Quite \xe9 Fine"
    assert answer.head.headers == [
        (b"Server", b"theirs"),
        (b"Date", b"then"),
        (b"set-cookie", b"a=1"),
        (b"X-b", b"1"),
        (b"Set-Cookie", b"b=2; Path=/"),
        (b"x-B", b"2"),
        (b"X_under", b"3"),
        (b"Content-Length", b"3"),
        (b"X-Empty", b""),
    ]
    assert answer.body == b"abc"


def test_no_cookie_of_one_caller_reaches_the_next(front: Stack, raw: RawUpstream) -> None:
    raw.handler = lambda call: call.send(b"HTTP/1.1 200 OK\r\nSet-Cookie: who=first\r\nContent-Length: 0\r\n\r\n")
    ask(front.port, get(b"/v1/models"))
    ask(front.port, get(b"/v1/models"))

    assert raw.call(1).head.values(b"cookie") == []


def test_compressed_bytes_pass_untouched(front: Stack, raw: RawUpstream) -> None:
    packed = gzip.compress(b"hello" * 1000)

    def handler(call: Call) -> None:
        call.read()
        call.send(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%b" % (len(packed), packed))

    raw.handler = handler
    head = b"Content-Encoding: gzip\r\nContent-Length: %d\r\n" % len(packed)
    answer = ask(front.port, get(b"/v1/files", head, b"POST") + packed)

    assert raw.call().body == packed
    assert answer.head.values(b"content-encoding") == [b"gzip"]
    assert answer.body == packed


@pytest.mark.parametrize(
    ("method", "response"),
    [
        (b"HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n"),
        (b"GET", b"HTTP/1.1 204 No Content\r\nX-A: 1\r\n\r\n"),
        (b"GET", b'HTTP/1.1 304 Not Modified\r\nETag: "x"\r\nContent-Length: 9\r\n\r\n'),
        (b"GET", b"HTTP/1.1 302 Found\r\nLocation: http://elsewhere.example/x\r\nContent-Length: 0\r\n\r\n"),
        (b"POST", b"HTTP/1.1 307 Temporary Redirect\r\nLocation: /v1/y\r\nContent-Length: 0\r\n\r\n"),
        (b"GET", b"HTTP/1.1 999 Odd\r\nContent-Length: 0\r\n\r\n"),
        (b"GET", b"HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n"),
    ],
)
def test_answers_without_a_body_and_redirects_are_passed_on_and_the_connection_goes_on(
    front: Stack, raw: RawUpstream, method: bytes, response: bytes
) -> None:
    raw.handler = lambda call: call.send(response)
    caller = Caller(front.port)
    for _ in range(2):
        caller.send(get(b"/v1/x", method=method))
        head = caller.head()
        assert (
            b"\r\n".join([head.line, *(name + b": " + value for name, value in head.headers)]) + b"\r\n\r\n" == response
        )
    caller.close()

    assert len(raw.calls) == 2


@pytest.mark.parametrize("size", [0, 1, 70_000, 3_000_000])
@pytest.mark.parametrize("chunked", [False, True])
def test_bodies_arrive_both_ways_in_either_framing(front: Stack, raw: RawUpstream, size: int, chunked: bool) -> None:
    body = os.urandom(size)

    def framed(data: bytes) -> bytes:
        if not chunked:
            return b"Content-Length: %d\r\n\r\n%b" % (len(data), data)
        parts = [data[: size // 3], data[size // 3 :]]
        chunks = b"".join(b"%X;ext=1\r\n%b\r\n" % (len(part), part) for part in parts if part)
        return b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\nX-Trailer: dropped\r\n\r\n"

    def handler(call: Call) -> None:
        call.read()
        call.send(b"HTTP/1.1 200 OK\r\n" + framed(body[::-1]))

    raw.handler = handler
    caller = Caller(front.port)
    for number in range(2):
        caller.send(b"POST /v1/files HTTP/1.1\r\nHost: x\r\n" + framed(body))
        answer = caller.answer()
        assert raw.call(number).body == body
        assert raw.call(number).head.values(b"transfer-encoding") == ([b"chunked"] if chunked else [])
        assert answer.body == body[::-1]
        assert answer.whole
    caller.close()


def test_an_answer_that_ends_with_its_connection_is_relayed_whole(front: Stack, raw: RawUpstream) -> None:
    def handler(call: Call) -> None:
        call.send(b"HTTP/1.0 200 OK\r\n\r\n" + b"x" * 100_000)
        call.close()

    raw.handler = handler
    modern = ask(front.port, get(b"/v1/x"))
    old = ask(front.port, b"GET /v1/x HTTP/1.0\r\n\r\n", closes=True)

    assert modern.whole
    assert modern.body == old.body == b"x" * 100_000
    assert modern.head.values(b"transfer-encoding") == [b"chunked"]
    assert old.head.values(b"transfer-encoding") == []
    assert old.closed


def test_pipelined_requests_are_answered_in_order(front: Stack, raw: RawUpstream) -> None:
    def handler(call: Call) -> None:
        body = call.read() or call.head.line
        call.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    raw.handler = handler
    caller = Caller(front.port)
    caller.send(get(b"/v1/a") + get(b"/v1/b", b"Content-Length: 4\r\n", b"POST") + b"GET " + get(b"/v1/c"))

    assert [caller.answer().body for _ in range(3)] == [b"GET /v1/a HTTP/1.1", b"GET ", b"GET /v1/c HTTP/1.1"]
    caller.close()


def test_files_and_batches_of_the_users_are_relayed_like_any_other(front: Stack, raw: RawUpstream) -> None:
    for target in (b"/v1/files", b"/v1/files/file-1/content", b"/v1/batches", b"/v1/batches/batch_1/cancel"):
        ask(front.port, get(target, AUTH, b"POST"))

    assert [call.head.line.split(b" ")[1] for call in raw.calls] == [
        b"/v1/files",
        b"/v1/files/file-1/content",
        b"/v1/batches",
        b"/v1/batches/batch_1/cancel",
    ]
