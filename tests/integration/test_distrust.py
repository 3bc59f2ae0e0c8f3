"""Upstreams that cannot be trusted: whatever they answer is bounded, and becomes an error of the one who asked."""

from __future__ import annotations

import gzip
import io
from typing import Any

import pytest

from tasks.errors import UpstreamRefused, UpstreamTrouble
from tasks.providers import account, anthropic, google, http
from tests.integration.untrusted import (
    ACTS,
    BATCH,
    CALLS,
    GROUPS,
    LISTS,
    MEMBERS,
    UNDER_WAY,
    Endless,
    answering,
    listing,
    made,
)  # fmt: skip
from tests.relay.raw_upstream import Call, RawUpstream


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
