"""Callers that send as slowly as they can keep nobody else from being served."""

from __future__ import annotations

import contextlib
import socket
import statistics
import time

import pytest
import requests

from tests.relay.conftest import PATIENCE_SECONDS
from tests.relay.raw_upstream import RawUpstream
from tests.running import Stack
from web.worker import HEADER_SECONDS

MANY = 300
BEGINNINGS = {
    "head": b"GET /v1/models HTTP/1.1\r\nHost: x\r\nX-A: ",
    "relayed body": b"POST /v1/files HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\nx",
    "relayed chunks": b"POST /v1/files HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nx",
    "batched body": b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nAuthorization: k\r\nContent-Length: 1000\r\n\r\n{",
    "webhook": b"POST /webhooks/openai HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{",
}


@pytest.mark.parametrize("name", BEGINNINGS)
def test_many_that_trickle_do_not_keep_another_one_waiting(front: Stack, raw: RawUpstream, name: str) -> None:
    with contextlib.ExitStack() as opened:
        slow = []
        for _ in range(MANY):
            connection = opened.enter_context(socket.create_connection(("127.0.0.1", front.port), timeout=10))
            connection.sendall(BEGINNINGS[name])
            slow.append(connection)
        rounds = []
        for _ in range(20):
            for connection in slow[:50]:
                with contextlib.suppress(OSError):
                    connection.sendall(b"x")
            began = time.monotonic()
            assert requests.get(f"{front.url}/v1/models", timeout=20).status_code == 200
            assert requests.get(f"{front.url}/healthz", timeout=20).status_code == 200
            rounds.append(time.monotonic() - began)

    assert statistics.median(rounds) < 1  # some milliseconds, on a machine that is not busy


@pytest.mark.parametrize("name", ["head", "relayed body", "relayed chunks"])
def test_one_that_falls_silent_is_let_go(front: Stack, raw: RawUpstream, name: str) -> None:
    patience = HEADER_SECONDS if name == "head" else PATIENCE_SECONDS
    with socket.create_connection(("127.0.0.1", front.port), timeout=patience + 10) as connection:
        connection.sendall(BEGINNINGS[name])
        began = time.monotonic()
        while connection.recv(10_000):
            pass

    assert time.monotonic() - began < patience + 6
