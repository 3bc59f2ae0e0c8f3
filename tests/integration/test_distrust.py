"""An upstream that cannot be trusted: whatever it answers is bounded, and becomes an error of the one who asked."""

from __future__ import annotations

import contextlib
import gzip
import io
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tasks import vault
from tasks.errors import UpstreamRefused, UpstreamTrouble
from tasks.models import Group
from tasks.providers import http, openai
from tasks.providers.openai import OpenAI
from tasks.settings import settings
from tests.relay.raw_upstream import Call, RawUpstream

HEAD = b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nConnection: close\r\n"
GROUP = Group(credential="c" * 24, endpoint="/v1/chat/completions", model="m")
PIECE = b"x" * 65_536
#: What may be under way in the sockets of both ends beside what is read.
UNDER_WAY = 8_000_000

Act = Callable[[OpenAI], object]
CALLS: dict[str, Act] = {
    "upload": lambda upstream: upstream.upload(io.BytesIO(b"form"), "multipart/form-data; boundary=x"),
    "create": lambda upstream: upstream.create("b" * 32, "file-1", "/v1/chat/completions"),
    "retrieve": lambda upstream: upstream.retrieve("batch_1"),
    "cancel": lambda upstream: upstream.cancel("batch_1"),
    "find": lambda upstream: upstream.find("b" * 32, "file-1", 0.0),
    "find files": lambda upstream: upstream.find_input_files("b" * 32, 0.0),
    "delete": lambda upstream: upstream.delete("file-1"),
}


@pytest.fixture
def raw(monkeypatch: pytest.MonkeyPatch) -> Iterator[RawUpstream]:
    upstream = RawUpstream()
    monkeypatch.setenv("LLM_PROXY_UPSTREAM", upstream.url)
    settings.cache_clear()
    monkeypatch.setattr(vault, "open_sealed", lambda ref: "Bearer sk-x")
    yield upstream
    upstream.close()
    settings.cache_clear()


class Endless:
    """Answers with a body that goes on until the other end has had enough."""

    def __init__(self, status: bytes = b"200 OK", begin: bytes = b"{", piece: bytes = PIECE, more: bytes = b"") -> None:
        self._status, self._begin, self._piece, self._more = status, begin, piece, more
        self.sent = 0

    def __call__(self, call: Call) -> None:
        call.read()
        call.send(HEAD % self._status + self._more + b"\r\n" + self._begin)
        with contextlib.suppress(OSError):
            while self.sent < 1_000_000_000:
                call.send(self._piece)
                self.sent += len(self._piece)
        call.close()


def answering(body: bytes, *, more: bytes = b"") -> Callable[[Call], None]:
    def handler(call: Call) -> None:
        call.read()
        call.send(HEAD % b"200 OK" + more + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        call.close()

    return handler


@pytest.mark.parametrize("name", CALLS)
def test_an_answer_without_an_end_is_given_up(raw: RawUpstream, name: str) -> None:
    endless = raw.handler = Endless()
    with pytest.raises(UpstreamTrouble) as caught:
        CALLS[name](OpenAI(GROUP))

    assert caught.value.in_doubt
    assert endless.sent <= http.MOST_JSON_BYTES + UNDER_WAY


@pytest.mark.parametrize("name", CALLS)
def test_an_answer_that_unpacks_to_gigabytes_is_given_up(raw: RawUpstream, name: str) -> None:
    packed = gzip.compress(b" " * 10_000_000)
    bomb = b"".join([packed] * 200)  # 2 MB, 2 GB unpacked
    raw.handler = answering(bomb, more=b"Content-Encoding: gzip\r\n")

    with pytest.raises(UpstreamTrouble):
        CALLS[name](OpenAI(GROUP))


@pytest.mark.parametrize(
    "body",
    [
        b"<!DOCTYPE html><html></html>",
        b"",
        b"null",
        b"[]",
        b'"text"',
        b"[" * 100_000,
        b'{"id":' * 100_000 + b"1" + b"}" * 100_000,
        b'{"id":\xff}',
        b'{"id":1e999}',
        b'{"id":7}',
        b'{"id":["batch_1"]}',
        b"{}",
    ],
)
@pytest.mark.parametrize("name", ["upload", "create"])
def test_an_answer_without_a_sensible_id_is_trouble_that_leaves_a_doubt(
    raw: RawUpstream, name: str, body: bytes
) -> None:
    raw.handler = answering(body)
    with pytest.raises(UpstreamTrouble) as caught:
        CALLS[name](OpenAI(GROUP))

    assert caught.value.in_doubt


@pytest.mark.parametrize("name", ["find", "find files"])
@pytest.mark.parametrize(
    "body",
    [b"{}", b'{"data":7}', b'{"data":null}', b'{"data":{"a":1}}', b'{"data":[],"has_more":true}',
     b'{"data":[{"created_at":9e9}],"has_more":true}'],
)  # fmt: skip
def test_what_is_no_list_is_not_believed_to_be_without_our_batch(raw: RawUpstream, name: str, body: bytes) -> None:
    """A batch that is taken to be missing is created, and paid, once more."""
    raw.handler = answering(body)

    with pytest.raises(UpstreamTrouble):
        CALLS[name](OpenAI(GROUP))


@pytest.mark.parametrize("name", ["find", "find files"])
@pytest.mark.parametrize("items", [b"", b'7,null,"x",[]', b'{"metadata":[],"filename":7}', b'{"created_at":"x"}'])
def test_odd_things_in_a_list_are_passed_over(raw: RawUpstream, name: str, items: bytes) -> None:
    raw.handler = answering(b'{"data":[' + items + b"]}")

    assert not CALLS[name](OpenAI(GROUP))


def test_a_list_without_an_end_is_given_up(raw: RawUpstream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai, "LIST_PAGES", 5)
    raw.handler = answering(b'{"data":[{"id":"x","created_at":9999999999}],"has_more":true}')

    with pytest.raises(UpstreamTrouble, match="does not end"):
        OpenAI(GROUP).find("b" * 32, "file-1", 0.0)
    assert len(raw.calls) == 5


@pytest.mark.parametrize("status", [b"400 No", b"500 No", b"302 Elsewhere"])
def test_of_a_refusal_without_an_end_only_the_beginning_is_kept(raw: RawUpstream, status: bytes) -> None:
    endless = raw.handler = Endless(status)
    with pytest.raises((UpstreamRefused, UpstreamTrouble)) as caught:
        OpenAI(GROUP).retrieve("batch_1")

    error: Any = caught.value
    answer = error if isinstance(error, UpstreamRefused) else error.answer
    assert len(answer.body) <= http.ERROR_BYTES
    assert endless.sent <= http.ERROR_BYTES + UNDER_WAY


def test_a_synchronous_answer_without_an_end_is_a_502_that_is_not_paid_again(
    raw: RawUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openai, "MOST_LINE_BYTES", 1_000_000)
    endless = raw.handler = Endless()

    reply = OpenAI(GROUP).send("/v1/chat/completions", b"{}", 20)

    assert reply.status == 502
    assert b"answer_too_long" in reply.body
    assert reply.headers["x-should-retry"] == "false"
    assert endless.sent <= 1_000_000 + UNDER_WAY
    assert len(raw.calls) == 1


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\n" + b"X-A: x\r\n" * 500 + b"\r\n{}",
        b"HTTP/1.1 200 OK\r\nX-A: " + b"x" * 1_000_000 + b"\r\n\r\n{}",
        b"HTTP/1.1 " + b"2" * 1_000_000 + b"\r\n\r\n{}",
        b"HTTP/1.1 2000 OK\r\n\r\n{}",
        b"220 smtp.example ESMTP\r\n",
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}",
    ],
)
def test_what_is_not_http_is_trouble(raw: RawUpstream, head: bytes) -> None:
    def handler(call: Call) -> None:
        call.read()
        call.send(head)
        call.close()

    raw.handler = handler
    with pytest.raises(UpstreamTrouble):
        OpenAI(GROUP).create("b" * 32, "file-1", "/v1/chat/completions")


def test_a_redirect_takes_the_key_nowhere(raw: RawUpstream) -> None:
    elsewhere = RawUpstream()

    def handler(call: Call) -> None:
        call.read()
        call.send(b"HTTP/1.1 307 No\r\nLocation: %b/v1\r\nContent-Length: 0\r\n\r\n" % elsewhere.url.encode())

    raw.handler = handler
    for act in CALLS.values():
        with pytest.raises(UpstreamRefused):
            act(OpenAI(GROUP))

    assert elsewhere.calls == []
    elsewhere.close()


@pytest.mark.parametrize("value", [b"\xff", b"a\x01b", b"a\x7f"])
def test_a_header_that_could_not_be_passed_on_is_left_out(raw: RawUpstream, value: bytes) -> None:
    raw.handler = answering(b"{}", more=b"x-request-id: " + value + b"\r\n")

    reply = OpenAI(GROUP).send("/v1/chat/completions", b"{}", 20)

    assert "x-request-id" not in reply.headers
    assert reply.headers["content-type"] == "application/json"
