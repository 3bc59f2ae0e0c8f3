"""What two servers could read differently never reaches the upstream; limits are named in OpenAI's shape."""

from __future__ import annotations

import gzip
import json

import pytest
import requests

from tests.relay.raw_upstream import Call, RawUpstream
from tests.relay.wire import Caller, ask
from tests.running import Stack, until

START = b"POST /v1/files HTTP/1.1\r\nHost: x\r\n"
CL = b"Content-Length: 4\r\n"
TE = b"Transfer-Encoding: chunked\r\n"
END = b"\r\n0\r\n\r\n"
#: Behind each of them: it must never be answered, nor reach the upstream.
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"

MALFORMED = {
    "two lengths": START + CL + b"Content-Length: 5\r\n\r\nbody",
    "two equal lengths": START + CL + CL + b"\r\nbody",
    "length list": START + b"Content-Length: 4, 4\r\n\r\nbody",
    "length with a sign": START + b"Content-Length: +4\r\n\r\nbody",
    "negative length": START + b"Content-Length: -4\r\n\r\nbody",
    "length in hex": START + b"Content-Length: 0x4\r\n\r\nbody",
    "length with an underscore": START + b"Content-Length: 0_4\r\n\r\nbody",
    "length in other digits": START + b"Content-Length: \xb2\r\n\r\nbody",
    "empty length": START + b"Content-Length:\r\n\r\nbody",
    "endless length": START + b"Content-Length: " + b"9" * 30 + b"\r\n\r\nbody",
    "length and chunks": START + CL + TE + END,
    "chunks and length": START + TE + CL + END,
    "chunked twice": START + TE + TE + END,
    "chunked, chunked": START + b"Transfer-Encoding: chunked, chunked\r\n" + END,
    "chunked not last": START + b"Transfer-Encoding: chunked, identity\r\n" + END,
    "chunks in 1.0": b"POST /v1/files HTTP/1.0\r\n" + TE + END,
    "space before the colon": START + b"Content-Length : 4\r\n\r\nbody",
    "space before the name": START + b" Content-Length: 4\r\n\r\nbody",
    "length with an underscore in its name": START + b"Content_Length: 4\r\n\r\nbody",
    "coding with an underscore in its name": START + b"Transfer_Encoding: chunked\r\n" + END,
    "folded header": START + b"X-A: 1\r\n 2\r\n\r\n",
    "folded coding": START + b"Transfer-Encoding:\r\n chunked\r\n" + END,
    "no colon": START + b"Authorization Bearer sk-secret-of-a-caller\r\n\r\n",
    "empty name": START + b": x\r\n\r\n",
    "name with a control character": START + b"X\x01: x\r\n\r\n",
    "NUL in a value": START + b"X-A: a\x00b\r\n\r\n",
    "CR in a value": START + b"X-A: a\rb\r\n\r\n",
    "LF in a value": START + b"X-A: a\nContent-Length: 4\r\n\r\nbody",
    "bare LF everywhere": b"POST /v1/files HTTP/1.1\nHost: x\nContent-Length: 4\n\nbody",
    "bare LF after the request line": b"GET /v1/models HTTP/1.1\nHost: x\r\n\r\n",
    "bare LF at the end": START + b"X-A: 1\n\r\n",
    "two hosts": b"GET /v1/models HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
    "NUL in the target": b"GET /v1/\x00 HTTP/1.1\r\nHost: x\r\n\r\n",
    "space in the target": b"GET /v1/a b HTTP/1.1\r\nHost: x\r\n\r\n",
    "eight bits in the target": b"GET /v1/\xe9 HTTP/1.1\r\nHost: x\r\n\r\n",
    "no target": b"GET  HTTP/1.1\r\nHost: x\r\n\r\n",
    "a host as target": b"GET elsewhere.example:443 HTTP/1.1\r\nHost: x\r\n\r\n",
    "no version": b"GET /v1/models\r\n\r\n",
    "version 0.9": b"GET /v1/models HTTP/0.9\r\n\r\n",
    "version 2.0": b"GET /v1/models HTTP/2.0\r\nHost: x\r\n\r\n",
    "lower-case version": b"GET /v1/models http/1.1\r\nHost: x\r\n\r\n",
    "method with a space": b"GE T /v1/models HTTP/1.1\r\nHost: x\r\n\r\n",
    "method with a brace": b"G{T /v1/models HTTP/1.1\r\nHost: x\r\n\r\n",
}
BAD_CHUNKS = {
    "size with a sign": b"+4\r\nbody\r\n0\r\n\r\n",
    "size with 0x": b"0x4\r\nbody\r\n0\r\n\r\n",
    "size with a space": b" 4\r\nbody\r\n0\r\n\r\n",
    "size with an underscore": b"0_4\r\nbody\r\n0\r\n\r\n",
    "no size": b"\r\nbody\r\n0\r\n\r\n",
    "negative size": b"-4\r\nbody\r\n0\r\n\r\n",
    "chunk longer than its size": b"3\r\nbody\r\n0\r\n\r\n",
    "chunk shorter than its size": b"5\r\nbody\r\n0\r\n\r\n",
    "bare LF after the size": b"4\nbody\r\n0\r\n\r\n",
    "bare LF after the chunk": b"4\r\nbody\n0\r\n\r\n",
    "CR in an extension": b"4;a=\rb\r\nbody\r\n0\r\n\r\n",
    "folded trailer": b"4\r\nbody\r\n0\r\nX-A: 1\r\n 2\r\n\r\n",
    "framing in the trailer": b"4\r\nbody\r\n0\r\nContent-Length: 5\r\n\r\n",
    "endless size line": b"4;" + b"x" * 200_000 + b"\r\nbody\r\n0\r\n\r\n",
}


def check(front: Stack, request: bytes) -> None:
    answer = ask(front.port, request + SMUGGLED, closes=True)

    assert answer.status == 400
    assert set(json.loads(answer.body)["error"]) == {"message", "type", "param", "code"}
    assert answer.head.values(b"connection") == [b"close"]
    assert answer.closed


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_head_is_a_400_and_the_end_of_the_connection(front: Stack, raw: RawUpstream, name: str) -> None:
    check(front, MALFORMED[name])

    assert raw.calls == []


@pytest.mark.parametrize("target", [b"/v1/files", b"/v1/chat/completions"])
@pytest.mark.parametrize("name", BAD_CHUNKS)
def test_malformed_chunks_are_a_400_and_the_end_of_both_connections(
    front: Stack, raw: RawUpstream, name: str, target: bytes
) -> None:
    raw.handler = lambda call: call.wait_for_end()
    head = b"POST " + target + b" HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer k\r\n" + TE + b"\r\n"
    check(front, head + BAD_CHUNKS[name])

    assert not any(call.head.line.startswith(b"GET") for call in raw.calls)
    until(lambda: all(call.gone.is_set() for call in raw.calls), "the upstream saw the end")


@pytest.mark.parametrize(
    ("coding", "status"),
    [(b"gzip, chunked", 501), (b"identity, chunked", 501), (b"xchunked", 501), (b"gzip", 400), (b"identity", 400)],
)
def test_a_transfer_coding_other_than_chunked_is_refused(
    front: Stack, raw: RawUpstream, coding: bytes, status: int
) -> None:
    answer = ask(front.port, START + b"Transfer-Encoding: " + coding + b"\r\n" + END + SMUGGLED, closes=True)

    assert answer.status == status
    assert answer.closed
    assert raw.calls == []


def test_what_is_left_of_an_answered_body_is_never_a_request(front: Stack, raw: RawUpstream) -> None:
    def handler(call: Call) -> None:
        call.send(b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n")
        call.wait_for_end()  # else this upstream would take the body for a request itself

    raw.handler = handler
    for framing in (b"Content-Length: 100000\r\n\r\n", TE + b"\r\nffff\r\n"):
        ask(front.port, START + framing + SMUGGLED, closes=True)

    assert [call.head.line for call in raw.calls] == [b"POST /v1/files HTTP/1.1"] * 2


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET /v1/" + b"x" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
        (b"GET /v1/models HTTP/1.1\r\nHost: x\r\nX-A: " + b"x" * 20_000 + b"\r\n\r\n", 431),
        (b"GET /v1/models HTTP/1.1\r\nHost: x\r\n" + b"X-A: x\r\n" * 300 + b"\r\n", 431),
        (b"GET /v1/models HTTP/1.1\r\nHost: x\r\nExpect: the-unexpected\r\n\r\n", 417),
        (b"CONNECT elsewhere.example:443 HTTP/1.1\r\nHost: elsewhere.example:443\r\n\r\n", 405),
        (b"CONNECT /v1/models HTTP/1.1\r\nHost: x\r\n\r\n", 405),
        (b"GET /v1/realtime?model=m HTTP/1.1\r\nHost: x\r\n\r\n", 501),
        (b"GET /v1/x HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", 501),
    ],
)
def test_limits_are_named_in_openais_shape(front: Stack, raw: RawUpstream, request_bytes: bytes, status: int) -> None:
    answer = ask(front.port, request_bytes)

    assert answer.status == status
    assert set(json.loads(answer.body)["error"]) == {"message", "type", "param", "code"}
    assert raw.calls == []


def test_the_sessions_of_realtime_are_relayed(front: Stack, raw: RawUpstream) -> None:
    assert requests.post(f"{front.url}/v1/realtime/client_secrets", json={}, timeout=20).status_code == 200
    assert raw.call().head.line == b"POST /v1/realtime/client_secrets HTTP/1.1"


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "br", "gzip, gzip"])
def test_a_compressed_body_is_not_unpacked_to_be_batched(front: Stack, encoding: str) -> None:
    bomb = gzip.compress(b" " * 100_000_000)
    answer = requests.post(
        f"{front.url}/v1/chat/completions",
        data=bomb,
        headers={"Content-Encoding": encoding, "Authorization": "Bearer k"},
        timeout=20,
    )

    assert answer.status_code == 415
    assert answer.json()["error"]["code"] == "unsupported_content_encoding"


def test_no_header_of_a_refused_request_is_logged(front: Stack) -> None:
    ask(front.port, MALFORMED["no colon"])

    assert "sk-secret-of-a-caller" not in front.logs()


def test_a_head_that_never_ends_is_given_up(front: Stack) -> None:
    caller = Caller(front.port)
    caller.send(b"GET /v1/models HTTP/1.1\r\nHost: x\r\n")

    assert caller.closed()
    caller.close()


def test_a_connection_goes_on_after_a_refusal_of_ours(front: Stack, raw: RawUpstream) -> None:
    caller = Caller(front.port)
    caller.send(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer k\r\n" + CL + b"\r\nbody")
    assert caller.answer().status == 400
    caller.send(b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n")
    assert caller.answer().status == 200
    caller.close()
