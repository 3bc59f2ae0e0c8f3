"""The same over TLS, where readable does not mean that there is something to read."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import running
from tests.integration.tls import self_signed
from tests.relay.raw_upstream import Call, RawUpstream
from tests.relay.wire import Caller, ask
from tests.running import RedisServer, Stack

GET = b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n"


class TlsUpstream(RawUpstream):
    """The raw upstream with a certificate."""

    def __init__(self, certificate: Path) -> None:
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(certificate)
        super().__init__()
        self.url = f"https://localhost:{self.port}"

    def prepare(self, sock: socket.socket) -> socket.socket:
        return self.context.wrap_socket(sock, server_side=True)


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsUpstream]:
    upstream = TlsUpstream(self_signed(tmp_path_factory.mktemp("relay-tls")))
    yield upstream
    upstream.close()


@pytest.fixture(scope="module")
def trusting(redis_server: RedisServer, tls: TlsUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A front that trusts the upstream's certificate."""
    trusted = next(tmp_path_factory.getbasetemp().glob("relay-tls*/certificate.pem"))
    with running.running_stack(
        redis_server.url, tls.url, only=("web",), LLM_PROXY_WEB_PROCESSES="1", SSL_CERT_FILE=str(trusted)
    ) as stack:
        yield stack


def test_connections_are_kept_over_tls_too(trusting: Stack, tls: TlsUpstream) -> None:
    tls.reset()
    body = bytes(range(256)) * 4000
    request = b"PUT /v1/x HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)

    assert [ask(trusting.port, request).status for _ in range(3)] == [200] * 3
    assert {call.body for call in tls.calls} == {body}
    assert len({call.connection for call in tls.calls}) == 1
    assert tls.call().head.values(b"host") == [f"localhost:{tls.port}".encode()]


@pytest.mark.parametrize("begin", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"])
def test_a_caller_that_goes_away_takes_the_upstreams_connection_along(
    trusting: Stack, tls: TlsUpstream, begin: bytes
) -> None:
    tls.reset()

    def handler(call: Call) -> None:
        if begin:
            call.send(begin)
        call.wait_for_end()

    tls.handler = handler
    caller = Caller(trusting.port)
    caller.send(GET)
    call = tls.call()
    if begin:
        caller.head()
    gone_at = time.monotonic()
    caller.close()

    assert call.gone.wait(10)
    assert time.monotonic() - gone_at < 2


def test_a_broken_body_breaks_the_upstreams_connection(trusting: Stack, tls: TlsUpstream) -> None:
    tls.reset()
    read = threading.Event()

    def handler(call: Call) -> None:
        try:
            call.read()
        finally:
            read.set()

    tls.handler = handler
    answer = ask(
        trusting.port, b"POST /v1/x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\nno\r\n"
    )

    assert answer.status == 400
    assert read.wait(5)
    assert tls.call().body == b""  # never whole


def test_an_answer_cut_midway_is_cut_over_tls_too(trusting: Stack, tls: TlsUpstream) -> None:
    tls.reset()

    def handler(call: Call) -> None:
        call.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n")
        call.close()

    tls.handler = handler
    answer = ask(trusting.port, GET)

    assert (answer.body, answer.whole) == (b"half", False)


def test_an_upstream_with_a_certificate_that_nobody_signed_is_a_502(
    redis_server: RedisServer, tls: TlsUpstream
) -> None:
    with running.running_stack(redis_server.url, tls.url, only=("web",), LLM_PROXY_WEB_PROCESSES="1") as stack:
        assert ask(stack.port, GET).status == 502
