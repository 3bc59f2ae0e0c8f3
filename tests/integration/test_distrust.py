"""Upstreams that cannot be trusted: whatever they answer is bounded, and becomes an error of the one who asked."""

from __future__ import annotations

import contextlib
import gzip
import io
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from tasks import batches, vault
from tasks.batches import Batch
from tasks.errors import UpstreamRefused, UpstreamTrouble
from tasks.models import BatchState, Group
from tasks.providers import account, anthropic, catalogue, gemini_inline, google, http, registry
from tasks.providers.dialect import Upstream
from tasks.settings import Settings
from tests.relay.raw_upstream import Call, RawUpstream

HEAD = b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nConnection: close\r\n"
PIECE = b"x" * 65_536
#: What may be under way in the sockets of both ends beside what is read.
UNDER_WAY = 8_000_000

GROUPS = {
    "openai": Group(credential="c" * 24, endpoint="/v1/chat/completions", model="m"),
    "anthropic": Group(credential="c" * 24, endpoint="/v1/messages", model="", provider="anthropic"),
    "gemini": Group(credential="c" * 24, endpoint="generateContent", model="m", provider="gemini"),
    "inline": Group(credential="c" * 24, endpoint="generateContent", model="m", provider="gemini"),
}
BATCH = Batch(
    id="b" * 32, state=BatchState.CREATING, group=GROUPS["openai"], count=1, claimed=0, create_at=0, input_file="file-1"
)
Act = Callable[[Upstream], object]
ACTS: dict[str, Act] = {
    "upload": lambda upstream: upstream.upload(io.BytesIO(b"form"), BATCH),
    "create": lambda upstream: upstream.create(BATCH, io.BytesIO(b"form")),
    "retrieve": lambda upstream: upstream.retrieve("batch_1"),
    "cancel": lambda upstream: upstream.cancel("batch_1"),
    "find": lambda upstream: upstream.find(BATCH),
    "find files": lambda upstream: upstream.find_input_files(BATCH),
    "delete": lambda upstream: upstream.delete("file-1"),
}
#: Of which dialect which calls are made; those with one answer that is read.
CALLS = [
    (dialect, name)
    for dialect in GROUPS
    for name in ACTS
    if dialect in {"openai", "gemini"} or name not in {"upload", "find files"}
    if (dialect, name) != ("gemini", "upload")
]
LISTS = [(dialect, name) for dialect, name in CALLS if name in {"find", "find files"}]
MEMBERS = {"openai": b"data", "anthropic": b"data", "gemini": b"operations", "inline": b"operations"}


@pytest.fixture
def raw(monkeypatch: pytest.MonkeyPatch) -> Iterator[RawUpstream]:
    upstream = RawUpstream()
    monkeypatch.setattr(vault, "open_sealed", lambda ref: "Bearer sk-x")
    monkeypatch.setattr(batches, "lines", lambda batch_id: [("r" * 32, 1)])
    monkeypatch.setattr(gemini_inline, "MOST_BYTES", http.MOST_JSON_BYTES)
    yield upstream
    upstream.close()


def made(raw: RawUpstream, dialect: str = "openai") -> Upstream:
    """The upstream as its dialect calls it."""
    provider = catalogue.build(Settings())[GROUPS[dialect].provider]
    provider = msgspec.structs.replace(provider, base_url=raw.url, inline=dialect == "inline")
    return registry.DIALECTS[provider.dialect](GROUPS[dialect], provider)


def listing(dialect: str, name: str, body: bytes) -> bytes:
    """A page as the dialect writes it."""
    member = b"files" if (dialect, name) == ("gemini", "find files") else MEMBERS[dialect]
    return body.replace(b'"data"', b'"%b"' % member)


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


@pytest.mark.parametrize(("dialect", "name"), CALLS)
def test_an_answer_without_an_end_is_given_up(raw: RawUpstream, dialect: str, name: str) -> None:
    endless = raw.handler = Endless()
    with pytest.raises(UpstreamTrouble) as caught:
        ACTS[name](made(raw, dialect))

    assert caught.value.in_doubt
    assert endless.sent <= http.MOST_JSON_BYTES + UNDER_WAY


@pytest.mark.parametrize(("dialect", "name"), CALLS)
def test_an_answer_that_unpacks_to_gigabytes_is_given_up(raw: RawUpstream, dialect: str, name: str) -> None:
    packed = gzip.compress(b" " * 10_000_000)
    bomb = b"".join([packed] * 200)  # 2 MB, 2 GB unpacked
    raw.handler = answering(bomb, more=b"Content-Encoding: gzip\r\n")

    with pytest.raises(UpstreamTrouble):
        ACTS[name](made(raw, dialect))


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
@pytest.mark.parametrize(("dialect", "name"), [call for call in CALLS if call[1] in {"upload", "create"}])
def test_an_answer_without_a_sensible_id_is_trouble_that_leaves_a_doubt(
    raw: RawUpstream, dialect: str, name: str, body: bytes
) -> None:
    raw.handler = answering(body)
    with pytest.raises(UpstreamTrouble) as caught:
        ACTS[name](made(raw, dialect))

    assert caught.value.in_doubt


@pytest.mark.parametrize(("dialect", "name"), LISTS)
@pytest.mark.parametrize(
    "body",
    [b'{"error":7}', b'{"data":7}', b'{"data":null}', b'{"data":{"a":1}}', b'{"has_more":true}',
     b'{"data":[],"has_more":true}', b'{"data":[{"created_at":9e9}],"has_more":true}'],
)  # fmt: skip
def test_what_is_no_list_is_not_believed_to_be_without_our_batch(
    raw: RawUpstream, dialect: str, name: str, body: bytes
) -> None:
    """A batch that is taken to be missing is created, and paid, once more."""
    if MEMBERS[dialect] != b"data":  # Google's lists go on as long as there is a token, however odd
        body = body.replace(b'"has_more":true', b'"nextPageToken":"x"') if b'"data":[' in body else body
    raw.handler = answering(listing(dialect, name, body))

    with pytest.raises(UpstreamTrouble):
        ACTS[name](made(raw, dialect))


@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
def test_no_list_at_all_is_not_an_empty_one(raw: RawUpstream, dialect: str) -> None:
    raw.handler = answering(b"{}")

    with pytest.raises(UpstreamTrouble, match="no list"):
        made(raw, dialect).find(BATCH)


@pytest.mark.parametrize("name", ["find", "find files"])
def test_google_leaves_out_a_list_that_is_empty(raw: RawUpstream, name: str) -> None:
    raw.handler = answering(b"{}")

    assert not ACTS[name](made(raw, "gemini"))


@pytest.mark.parametrize(("dialect", "name"), LISTS)
@pytest.mark.parametrize("items", [b"", b'7,null,"x",[]', b'{"metadata":[],"filename":7}', b'{"created_at":"x"}'])
def test_odd_things_in_a_list_are_passed_over(raw: RawUpstream, dialect: str, name: str, items: bytes) -> None:
    if dialect == "anthropic" and b"{" in items:
        return  # without an id it may be anything: that is trouble
    raw.handler = answering(listing(dialect, name, b'{"data":[' + items + b"]}"))

    assert not ACTS[name](made(raw, dialect))


@pytest.mark.parametrize(("dialect", "name"), LISTS)
def test_a_list_without_an_end_is_given_up(
    raw: RawUpstream, monkeypatch: pytest.MonkeyPatch, dialect: str, name: str
) -> None:
    for module in (account, anthropic, google):
        monkeypatch.setattr(module, "LIST_PAGES", 5)
    more = b'"has_more":true,"last_id":"x","nextPageToken":"x"'
    raw.handler = answering(listing(dialect, name, b'{"data":[{"id":"x","created_at":9999999999}],' + more + b"}"))

    with pytest.raises(UpstreamTrouble, match="does not end"):
        ACTS[name](made(raw, dialect))
    assert len(raw.calls) == 5


@pytest.mark.parametrize("status", [b"400 No", b"500 No", b"302 Elsewhere"])
def test_of_a_refusal_without_an_end_only_the_beginning_is_kept(raw: RawUpstream, status: bytes) -> None:
    endless = raw.handler = Endless(status)
    with pytest.raises((UpstreamRefused, UpstreamTrouble)) as caught:
        made(raw).retrieve("batch_1")

    error: Any = caught.value
    answer = error if isinstance(error, UpstreamRefused) else error.answer
    assert len(answer.body) <= http.ERROR_BYTES
    assert endless.sent <= http.ERROR_BYTES + UNDER_WAY


@pytest.mark.parametrize("dialect", GROUPS)
def test_a_synchronous_answer_without_an_end_is_a_502_that_is_not_paid_again(
    raw: RawUpstream, monkeypatch: pytest.MonkeyPatch, dialect: str
) -> None:
    monkeypatch.setattr(account, "MOST_LINE_BYTES", 1_000_000)
    endless = raw.handler = Endless()

    reply = made(raw, dialect).send(b"{}", 20)

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
        made(raw).create(BATCH, io.BytesIO(b"form"))


def test_a_redirect_takes_the_key_nowhere(raw: RawUpstream) -> None:
    elsewhere = RawUpstream()

    def handler(call: Call) -> None:
        call.read()
        call.send(b"HTTP/1.1 307 No\r\nLocation: %b/v1\r\nContent-Length: 0\r\n\r\n" % elsewhere.url.encode())

    raw.handler = handler
    for dialect, name in CALLS:
        with pytest.raises(UpstreamRefused):
            ACTS[name](made(raw, dialect))

    assert elsewhere.calls == []
    elsewhere.close()


@pytest.mark.parametrize("value", [b"\xff", b"a\x01b", b"a\x7f"])
def test_a_header_that_could_not_be_passed_on_is_left_out(raw: RawUpstream, value: bytes) -> None:
    raw.handler = answering(b"{}", more=b"x-request-id: " + value + b"\r\n")

    reply = made(raw).send(b"{}", 20)

    assert "x-request-id" not in reply.headers
    assert reply.headers["content-type"] == "application/json"


def test_an_operation_with_answers_that_do_not_end_is_trouble(raw: RawUpstream) -> None:
    endless = raw.handler = Endless()

    with pytest.raises(UpstreamTrouble), made(raw, "inline").content("batches/1"):
        pass
    assert endless.sent <= http.MOST_JSON_BYTES + UNDER_WAY


@pytest.mark.parametrize("counts", [b"7", b"null", b"[1]", b'"x"', b'{"succeeded":"x","errored":null}'])
def test_counts_of_whatever_shape_count_nothing(raw: RawUpstream, counts: bytes) -> None:
    raw.handler = answering(b'{"id":"b","processing_status":"ended","request_counts":' + counts + b"}")

    assert made(raw, "anthropic").retrieve("b")["request_counts"]["total"] == 0
