"""Each dialect against its simulator, without the stages: what they cannot easily be brought to ask."""

from __future__ import annotations

import contextlib
import io
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from tasks import batches, connections, vault
from tasks.batches import Batch
from tasks.errors import UpstreamRefused, UpstreamTrouble
from tasks.models import BatchState, Group, new_id
from tasks.providers import anthropic, gemini, google
from tasks.providers.account import Account, Extra, auth_headers, unix_seconds
from tasks.providers.catalogue import build
from tasks.settings import Settings
from tests.providers.conftest import own_file
from tests.relay.raw_upstream import Call, RawUpstream
from tests.running import until
from tests.simulators.server import Vendors, serve
from tests.simulators.vendor import End

BODY = b'{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"hi"}]}'


@pytest.fixture(scope="module")
def vendors() -> Iterator[Vendors]:
    with serve() as found:
        yield found


class NoRedis:
    """Knows no upstream batch."""

    def exists(self, key: str) -> int:
        return int(key.endswith("known"))


@pytest.fixture
def claude(
    vendors: Vendors, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> tuple[anthropic.Anthropic, Batch, list[str]]:
    vendors["anthropic"].reset()
    (tmp_path / "own.toml").write_text(own_file(vendors))
    known = build(Settings(providers_file=str(tmp_path / "own.toml")))
    ids = [new_id(), new_id()]
    monkeypatch.setattr(vault, "open_sealed", lambda _: "x-api-key\nk")
    monkeypatch.setattr(batches, "lines", lambda _: [(i, 1) for i in ids])
    monkeypatch.setattr(connections, "client", NoRedis)
    extra = Extra(headers={"anthropic-version": "2023-06-01"}).encode()
    group = Group(credential="c", endpoint="/v1/messages", model="", provider="anthropic", extra=extra)
    now = int(time.time() * 1000)
    batch = Batch(id=new_id(), state=BatchState.CREATING, group=group, count=2, claimed=now, create_at=now)
    return anthropic.Anthropic(group, known["anthropic"]), batch, ids


def create(upstream: anthropic.Anthropic, batch: Batch, ids: list[str]) -> str:
    lines = upstream.separator.join(upstream.line(request_id, BODY) for request_id in ids)
    return upstream.create(batch, io.BytesIO(upstream.head(batch) + lines + upstream.tail))


def test_a_batch_that_may_be_ours_is_waited_for_and_believed_by_its_results(claude: Any, vendors: Vendors) -> None:
    upstream, batch, ids = claude
    vendors["anthropic"].ends.append(End(hold=0.5))
    upstream_id = create(upstream, batch, ids)

    with pytest.raises(UpstreamTrouble, match="may be ours") as caught:
        upstream.find(batch)

    assert not caught.value.in_doubt
    until(lambda: upstream.retrieve(upstream_id)["status"] == "completed", "it has ended")
    assert upstream.find(batch) == upstream_id


def test_somebody_elses_batch_of_the_same_size_is_not_taken(claude: Any) -> None:
    upstream, batch, _ = claude
    other = create(upstream, batch, [new_id(), new_id()])
    until(lambda: upstream.retrieve(other)["status"] == "completed", "it has ended")

    assert upstream.find(batch) is None


def test_batches_of_another_size_or_an_earlier_time_are_passed_over(claude: Any) -> None:
    upstream, batch, ids = claude
    create(upstream, batch, [new_id()])

    assert upstream.find(batch) is None
    create(upstream, batch, ids)
    assert upstream.find(replace(batch, create_at=batch.create_at + 3_600_000)) is None


@pytest.mark.parametrize(
    ("line", "status", "error"),
    [
        (b'{"type":"succeeded","message":{"id":"x","n":1e400}}', 200, None),
        (b'{"type":"errored","error":{"type":"error","error":{"type":"overloaded_error"}}}', 529, None),
        (b'{"type":"errored","error":{"type":"error","error":{"type":"unheard_of"}}}', 500, None),
        (b'{"type":"errored","error":{}}', 500, None),
        (b'{"type":"expired"}', None, b'{"code":"batch_expired"}'),
        (b'{"type":"canceled"}', None, b'{"code":"batch_cancelled"}'),
    ],
)
def test_anthropics_results_are_read(claude: Any, line: bytes, status: int | None, error: bytes | None) -> None:
    found = claude[0].parse(b'{"custom_id":"a","result":%s}' % line)

    assert (found.response and found.response.status_code) == status
    assert error is None or bytes(found.error) == error


@pytest.mark.parametrize("text", [b'{"custom_id":"a","result":{"type":"odd"}}', b"{}", b'{"custom_id":"a"}', b"\xff"])
def test_what_is_no_result_is_said_to_be_none(claude: Any, text: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        claude[0].parse(text)


def test_a_refused_call_is_a_refusal(claude: Any) -> None:
    with pytest.raises(UpstreamRefused):
        claude[0].retrieve("msgbatch_none")


def test_an_upload_goes_to_no_other_host_than_the_providers(vendors: Vendors) -> None:
    def elsewhere(call: Call) -> None:
        call.read()
        call.send(
            b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-Goog-Upload-URL: %s/upload\r\n\r\n" % vendors.url.encode()
        )

    upstream = RawUpstream()
    upstream.handler = elsewhere
    group = Group(credential="c", endpoint="e", model="m")
    batch = Batch(id=new_id(), state=BatchState.UPLOADING, group=group, count=1, claimed=1)
    with contextlib.closing(upstream), pytest.raises(UpstreamTrouble, match="no address of this provider"):
        google.Files(upstream.url, {"x-goog-api-key": "k"}, "/v1beta").upload(io.BytesIO(b"{}"), batch)


@pytest.mark.parametrize("model", ["x?key=y", "../files", "a/b#c"])
def test_a_models_name_adds_nothing_to_a_path(monkeypatch: pytest.MonkeyPatch, model: str) -> None:
    monkeypatch.setattr(vault, "open_sealed", lambda _: "x-goog-api-key\nk")
    group = Group(credential="c", endpoint="generateContent", model=model, provider="gemini")
    account = Account(group, build(Settings())["gemini"])

    path = account.provider.operation(group.endpoint, account.model, account.root)

    assert re.fullmatch(r"/v1beta/models/[\w.%-]+:generateContent", path)
    assert unquote(path) == f"/v1beta/models/{model}:generateContent"


@pytest.fixture
def embedder(monkeypatch: pytest.MonkeyPatch) -> gemini.Gemini:
    monkeypatch.setattr(vault, "open_sealed", lambda _: "x-goog-api-key\nk")
    group = Group(credential="c", endpoint="batchEmbedContents", model="m", provider="gemini")
    return gemini.Gemini(group, build(Settings())["gemini"])


def part(number: int, total: int, values: str = "[1.0]") -> bytes:
    return b'{"key":"%s-%d-%d","response":{"embedding":{"values":%s}}}' % (b"a" * 32, number, total, values.encode())


def test_parts_of_an_answer_are_put_together_in_their_order_however_they_come(embedder: gemini.Gemini) -> None:
    assert embedder.splits
    assert [embedder.parse(part(n, 3, f"[{n}]")) for n in (2, 0, 2)] == [None] * 3
    whole = embedder.parse(part(1, 3, "[1]"))

    assert whole is not None
    assert whole.response is not None
    assert whole.response.body_bytes == b'{"embeddings":[{"values":[0]},{"values":[1]},{"values":[2]}]}'


@pytest.mark.parametrize("text", [part(3, 3), part(0, 0), part(7, 2)])
def test_a_part_beyond_the_last_is_no_part(embedder: gemini.Gemini, text: bytes) -> None:
    with pytest.raises(ValueError, match="beyond"):
        embedder.parse(text)


def test_a_part_that_failed_ends_its_request_and_nothing_more_of_it_is_kept(embedder: gemini.Gemini) -> None:
    assert embedder.parse(part(0, 3)) is None
    ended = embedder.parse(b'{"key":"%s-1-3","error":{"code":3,"message":"no"}}' % (b"a" * 32))

    assert ended is not None
    assert ended.response is not None
    assert (ended.custom_id, ended.response.status_code) == ("a" * 32, 400)
    assert embedder.parse(part(2, 3)) is None
    assert (embedder._parts, embedder._kept) == ({}, 0)


def test_an_answer_that_is_missing_is_no_answer(embedder: gemini.Gemini, claude: Any) -> None:
    with pytest.raises(ValueError, match="no object"):
        embedder.parse(b'{"key":"%s"}' % (b"a" * 32))
    with pytest.raises(ValueError, match="no object"):
        claude[0].parse(b'{"custom_id":"%s","result":{"type":"succeeded"}}' % (b"a" * 32))


def test_parts_of_which_none_is_whole_do_not_fill_the_memory(
    embedder: gemini.Gemini, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gemini, "MOST_KEPT_BYTES", 100)
    for n in range(20):  # what became whole is not kept
        embedder.parse(part(n % 2, 2))

    assert [embedder.parse(part(n, 1000)) for n in range(6)] == [None] * 6
    with pytest.raises(UpstreamTrouble, match="none is whole"):
        embedder.parse(part(6, 1000))


def test_a_finished_job_of_geminis_that_names_no_results_is_asked_again() -> None:
    with pytest.raises(UpstreamTrouble, match="does not name"):
        gemini.read({"name": "batches/1", "metadata": {"state": "BATCH_STATE_SUCCEEDED"}})


@pytest.mark.parametrize(
    ("state", "status"),
    [("BATCH_STATE_PENDING", "in_progress"), ("JOB_STATE_RUNNING", "in_progress"), ("BATCH_STATE_EXPIRED", "expired"),
     ("BATCH_STATE_CANCELLED", "cancelled"), ("BATCH_STATE_NEW_ONE", "new_one")],
)  # fmt: skip
def test_geminis_states_are_told_in_openais_words(state: str, status: str) -> None:
    assert gemini.read({"name": "batches/1", "metadata": {"state": state}})["status"] == status


def test_a_failed_job_of_geminis_says_why() -> None:
    full = gemini.read({"metadata": {"state": "BATCH_STATE_FAILED"}, "error": {"code": 8, "message": "full"}})
    wrong = gemini.read({"metadata": {"state": "BATCH_STATE_FAILED"}, "error": {"code": 3, "message": "no"}})

    assert full["errors"] == [{"code": "token_limit_exceeded", "message": "full"}]
    assert wrong["errors"] == [{"code": "invalid_argument", "message": "no"}]


def test_a_key_goes_back_into_the_header_that_it_came_in() -> None:
    assert auth_headers("Bearer sk") == {"Authorization": "Bearer sk"}
    assert auth_headers("x-api-key\nsk") == {"x-api-key": "sk"}


@pytest.mark.parametrize(("moment", "seconds"), [(5, 5.0), ("1970-01-01T00:00:05Z", 5.0), ("soon", None), (None, None)])
def test_moments_are_read_as_seconds_and_as_iso(moment: object, seconds: float | None) -> None:
    assert unix_seconds(moment) == seconds
