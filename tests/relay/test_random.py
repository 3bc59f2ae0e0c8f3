"""Random requests and answers over bare sockets: what arrives is what was sent, byte for byte, both ways.

`--hypothesis-profile=long` for 20,000 of them.
"""

from __future__ import annotations

import itertools
import string
from dataclasses import dataclass

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.relay.raw_upstream import Call, RawUpstream
from tests.relay.wire import Headers, ask
from tests.running import Stack

TOKEN = string.ascii_letters + string.digits + "!#$%&'*+-.^_`|~"
#: What belongs to one connection, is the proxy's own, or may stand only once.
NOT_FREE = {
    b"connection", b"keep-alive", b"proxy-connection", b"proxy-authenticate", b"proxy-authorization", b"te",
    b"trailer", b"transfer-encoding", b"upgrade", b"host", b"expect", b"content-length", b"content-type",
    b"content_length", b"transfer_encoding", b"idempotency-key", b"x-batch-mode", b"x-batch-max-wait",
}  # fmt: skip
KNOWN = ["Authorization", "accept-encoding", "Accept", "Cookie", "COOKIE", "OpenAI-Beta", "x-stainless-lang", "Range"]
ANSWERED = ["Set-Cookie", "set-cookie", "Server", "Date", "x-request-id", "Content-Encoding", "ETag", "Location", "Via"]

methods = st.sampled_from(["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]) | st.text(TOKEN, min_size=1, max_size=9)
targets = st.text([chr(code) for code in range(0x21, 0x7F)], max_size=60).map(lambda text: f"/{text}".encode())
values = st.binary(max_size=60).map(lambda raw: bytes(b for b in raw if (b > 31 and b != 127) or b == 9).strip(b" \t"))
spaces = st.sampled_from([b"", b" ", b"\t", b"  \t "])


def headers(known: list[str]) -> st.SearchStrategy[Headers]:
    names = (st.sampled_from(known) | st.text(TOKEN, min_size=1, max_size=20)).map(str.encode)
    return st.lists(st.tuples(names.filter(lambda name: name.lower() not in NOT_FREE), values), max_size=12)


@dataclass
class Message:
    """Headers and a body, framed one way or the other."""

    headers: Headers
    body: bytes
    cuts: list[int] | None

    def framing(self) -> tuple[bytes, bytes]:
        if self.cuts is None:
            return b"Content-Length: %d" % len(self.body), self.body
        edges = [0, *sorted(cut % (len(self.body) + 1) for cut in self.cuts), len(self.body)]
        chunks = [self.body[a:b] for a, b in itertools.pairwise(edges)]
        framed = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks if chunk)
        return b"Transfer-Encoding: chunked", framed + b"0\r\n\r\n"

    def encode(self, line: bytes, space: bytes) -> bytes:
        framing, body = self.framing()
        rows = [name + b":" + space + value + space for name, value in self.headers]
        middle = len(rows) // 2
        return b"\r\n".join([line, *rows[:middle], framing, *rows[middle:], b"", body])


def messages(known: list[str]) -> st.SearchStrategy[Message]:
    bodies = st.binary(max_size=300) | st.binary(max_size=30).map(lambda part: part * 9000)
    cuts = st.none() | st.lists(st.integers(0, 1 << 20), max_size=5)
    return st.builds(Message, headers(known), bodies, cuts)


statuses = st.sampled_from([200, 201, 206, 301, 302, 307, 400, 401, 404, 429, 500, 503]) | st.integers(200, 999)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    method=methods.filter(lambda method: method not in ("CONNECT", "HEAD")),
    target=targets,
    asked=messages(KNOWN),
    status=statuses.filter(lambda status: status not in (204, 304)),
    reason=values,
    answered=messages(ANSWERED),
    space=spaces,
)
def test_random_messages_arrive_as_they_were_sent(
    front: Stack,
    raw: RawUpstream,
    method: str,
    target: bytes,
    asked: Message,
    status: int,
    reason: bytes,
    answered: Message,
    space: bytes,
) -> None:
    def handler(call: Call) -> None:
        call.read()
        call.send(answered.encode(b"HTTP/1.1 %d %b" % (status, reason), space))

    raw.calls.clear()
    raw.handler = handler
    line = method.encode() + b" " + target + b" HTTP/1.1"
    got = ask(front.port, asked.encode(line, space))

    call = raw.call()
    assert call.head.line == line
    assert free(call.head.headers) == asked.headers
    assert call.body == asked.body
    assert got.head.line == b"HTTP/1.1 %d %b" % (status, reason)
    assert free(got.head.headers) == answered.headers
    assert got.body == answered.body
    assert got.whole


def free(pairs: Headers) -> Headers:
    """Without the framing and the host; no other header may have been added."""
    return [
        (name, value) for name, value in pairs if name.lower() not in {b"content-length", b"transfer-encoding", b"host"}
    ]
