"""The simulator keeps the vendor's promises: the life of a batch, its files and its refusals, over real HTTP."""

from __future__ import annotations

import base64
import hashlib
import json
import struct
from collections.abc import Iterator
from typing import Any

import pytest
from openai import OpenAI

from tests.simulator.server import Simulator, serve
from tests.unit.simulator_calls import CHAT, call, create, download, finished, line, look, ten, upload


@pytest.fixture(scope="module")
def shared() -> Iterator[Simulator]:
    with serve() as simulator:
        yield simulator


@pytest.fixture
def upstream(shared: Simulator) -> Simulator:
    shared.reset()
    return shared


@pytest.fixture
def client(upstream: Simulator) -> Iterator[OpenAI]:
    with OpenAI(base_url=upstream.base_url, api_key="sk-alice", max_retries=0) as client:
        yield client


def test_the_openai_sdk_takes_a_batch_from_upload_to_results(upstream: Simulator, client: OpenAI) -> None:
    content = "\n".join(line(f"r{index}", f"question {index}") for index in range(20)).encode()
    file = client.files.create(file=("in.jsonl", content), purpose="batch")
    batch = client.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h", metadata={"run": "7"}
    )
    assert (batch.status, batch.metadata) == ("validating", {"run": "7"})
    upstream.advance(20)

    done = client.batches.retrieve(batch.id)

    assert done.status == "completed"
    assert done.request_counts
    assert (done.request_counts.total, done.request_counts.completed) == (20, 20)
    assert done.usage
    assert done.usage.total_tokens > 0
    assert done.error_file_id is None
    assert done.output_file_id
    results = [json.loads(text) for text in client.files.content(done.output_file_id).content.splitlines()]
    texts = {r["custom_id"]: r["response"]["body"]["choices"][0]["message"]["content"] for r in results}
    assert texts == {f"r{index}": f"echo:question {index}" for index in range(20)}
    assert [r["custom_id"] for r in results] != [f"r{index}" for index in range(20)]
    assert len({r["response"]["body"]["id"] for r in results}) == 20
    client.files.delete(file.id)
    assert file.id not in [f.id for f in client.files.list()]


def test_the_openai_sdk_parses_every_synchronous_answer(upstream: Simulator, client: OpenAI) -> None:
    chat = client.chat.completions.create(model="m", n=2, messages=[{"role": "user", "content": "hi"}])
    assert [choice.message.content for choice in chat.choices] == ["echo:hi"] * 2
    assert client.responses.create(model="m", input="hi").output_text == "echo:hi"
    assert client.completions.create(model="m", prompt="hi").choices[0].text == "echo:hi"
    assert client.moderations.create(input=["a", "b"]).results[1].flagged is False
    vectors = client.embeddings.create(model="m", input=["a", "b"], dimensions=40).data
    assert [len(item.embedding) for item in vectors] == [40, 40]
    assert vectors[0].embedding[0] == (hashlib.sha256(b"a").digest()[0] - 128) / 128
    assert vectors[0].embedding != vectors[1].embedding
    assert client.models.retrieve("m").id == "m"
    assert upstream.stats()["sync_requests"] == 5


def test_the_openai_sdk_reads_streamed_answers(upstream: Simulator, client: OpenAI) -> None:
    chunks = client.chat.completions.create(model="m", stream=True, messages=[{"role": "user", "content": "hello"}])
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "echo:hello"
    events = list(client.responses.create(model="m", input="hi", stream=True))
    assert events[-1].type == "response.completed"
    assert events[-1].response.output_text == "echo:hi"


def test_a_question_over_64_bytes_is_answered_with_its_hash(client: OpenAI) -> None:
    def ask(text: str) -> str | None:
        reply = client.chat.completions.create(model="m", messages=[{"role": "user", "content": text}])
        return reply.choices[0].message.content

    assert ask("é" * 32) == "echo:" + "é" * 32
    assert ask("é" * 33) == "echo:" + hashlib.sha256(("é" * 33).encode()).hexdigest()


def test_a_question_says_which_answer_it_wants_and_where_tools_are_offered_which_call(client: OpenAI) -> None:
    wanted = [{"role": "user", "content": 'say:{"name":"Ada"}'}]
    tools: Any = [{"type": "function", "function": {"name": name}} for name in ("person", "other")]
    told: Any = {"model": "gpt-4o-mini", "messages": wanted}

    text = client.chat.completions.create(**told).choices[0].message
    called = client.chat.completions.create(**told, tools=tools).choices[0]
    with client.chat.completions.stream(**told, tools=tools) as events:
        streamed = events.get_final_completion().choices[0]

    assert text.content == '{"name":"Ada"}'
    assert (called.finish_reason, called.message.content) == ("tool_calls", None)
    for choice in (called, streamed):
        assert choice.message.tool_calls
        assert choice.message.tool_calls[0].type == "function"
        assert choice.message.tool_calls[0].function.name == "person"
        assert choice.message.tool_calls[0].function.arguments == '{"name":"Ada"}'


def test_base64_embeddings_are_little_endian_floats(upstream: Simulator) -> None:
    body = {"model": "m", "input": "a"}
    plain, packed = (
        call(upstream, "POST /v1/embeddings", json=body | more).json()["data"][0]["embedding"]
        for more in ({}, {"encoding_format": "base64"})
    )
    assert list(struct.unpack("<8f", base64.b64decode(packed))) == plain


def test_a_batch_passes_through_every_status_at_its_time(upstream: Simulator) -> None:
    batch = create(upstream, *ten())
    seen = [(batch["status"], batch["request_counts"]["total"])]
    for seconds in (0.6, 2.5, 2.5, 0.5):
        upstream.advance(seconds)
        batch = look(upstream, batch)
        seen.append((batch["status"], batch["request_counts"]["completed"]))
    assert seen[0] == ("validating", 0)
    assert seen[1:] == [("in_progress", 0), ("in_progress", 5), ("finalizing", 10), ("completed", 10)]
    assert batch["created_at"] <= batch["in_progress_at"] < batch["finalizing_at"] <= batch["completed_at"]
    results = download(upstream, batch["output_file_id"])
    stamps = {int(r["response"]["body"]["system_fingerprint"].removeprefix("t=")) // 1000 for r in results}
    assert stamps == {batch["completed_at"]}


@pytest.mark.parametrize(
    ("code", "number", "lines"),
    [
        ("invalid_json_line", 2, [line("a"), "{"]),
        ("invalid_json_line", 1, [b'{"custom_id": "\xff"}']),
        ("missing_required_parameter", 1, [json.dumps({"method": "POST", "url": CHAT, "body": {"model": "m"}})]),
        ("missing_required_parameter", 1, [line("a", model=None)]),
        ("duplicate_custom_id", 2, [line("a"), line("a")]),
        ("invalid_method", 1, [line("a").replace("POST", "GET")]),
        ("mismatched_endpoint", 1, [line("a", url="/v1/embeddings")]),
        ("mismatched_model", 2, [line("a"), line("b", model="other")]),
        ("model_not_found", 1, [line("a", model="no-such-model")]),
        ("empty_file", None, [" \n"]),
        ("too_many_tasks", None, [line(str(index)) for index in range(6)]),
        ("file_too_large", None, [line("a", "x" * 2000)]),
    ],
)
def test_an_unacceptable_file_fails_the_batch_after_create(
    upstream: Simulator, code: str, number: int | None, lines: list[str | bytes]
) -> None:
    upstream.configure(max_requests=5, max_file_bytes=2000)
    batch = create(upstream, *lines)
    assert (batch["status"], batch["errors"]) == ("validating", None)
    upstream.advance(1)
    failed = look(upstream, batch)
    assert failed["status"] == "failed"
    assert [(error["code"], error["line"]) for error in failed["errors"]["data"]] == [(code, number)]
    assert failed["output_file_id"] is None
    assert upstream.stats()["billed"]["requests"] == 0


def test_the_enqueued_limit_counts_unfinished_batches_of_one_key_and_model(upstream: Simulator) -> None:
    upstream.configure(enqueued_limit=3)
    first = create(upstream, line("a"), line("b"))
    second = create(upstream, line("c"), line("d"))
    other = create(upstream, line("e", model="other"), line("f", model="other"))
    upstream.advance(1)
    assert [look(upstream, batch)["status"] for batch in (first, second, other)] == [
        "in_progress",
        "failed",
        "in_progress",
    ]
    assert look(upstream, second)["errors"]["data"][0]["code"] == "token_limit_exceeded"
    upstream.advance(10)
    assert finished(upstream, line("c"), line("d"))["status"] == "completed"


def test_in_band_controls_strike_single_lines(upstream: Simulator) -> None:
    controls = ["fail-400", "fail-429", "fail-500", "drop", "dup-line", "plain"]
    batch = finished(upstream, *(line(name, name, user=name) for name in controls), line("streamed", stream=True))
    output = [r["custom_id"] for r in download(upstream, batch["output_file_id"])]
    errors = {r["custom_id"]: r["response"]["status_code"] for r in download(upstream, batch["error_file_id"])}
    assert sorted(output) == ["dup-line", "dup-line", "plain"]
    assert errors == {"fail-400": 400, "fail-429": 429, "fail-500": 500, "streamed": 400}
    assert batch["request_counts"] == {"total": 7, "completed": 3, "failed": 4}


def test_a_batch_whose_every_line_failed_has_no_output_file(upstream: Simulator) -> None:
    batch = finished(upstream, line("a", model="fail-400"))
    assert (batch["status"], batch["output_file_id"]) == ("completed", None)
    assert download(upstream, batch["error_file_id"])[0]["response"]["body"]["error"]["code"] is not None


def test_a_cancelled_batch_keeps_what_was_finished(upstream: Simulator) -> None:
    batch = create(upstream, *ten())
    upstream.advance(0.5 + 2.01)
    cancel = f"POST /v1/batches/{batch['id']}/cancel"
    assert call(upstream, cancel).json()["status"] == "cancelling"
    upstream.advance(1)
    batch = look(upstream, batch)
    assert batch["status"] == "cancelled"
    rest = download(upstream, batch["error_file_id"])
    assert len(download(upstream, batch["output_file_id"])) == batch["request_counts"]["completed"] == 4
    assert [(r["response"], r["error"]["code"]) for r in rest] == [(None, "batch_cancelled")] * 6
    assert upstream.stats()["billed"]["requests"] == 4
    assert call(upstream, cancel).status_code == 409


def test_an_expired_batch_has_finished_the_configured_share(upstream: Simulator) -> None:
    upstream.configure(expire_after=3, expire_frac=0.3)
    batch = finished(upstream, *ten())
    assert batch["status"] == "expired"
    assert len(download(upstream, batch["output_file_id"])) == 3
    assert {r["error"]["code"] for r in download(upstream, batch["error_file_id"])} == {"batch_expired"}


def test_a_stuck_batch_waits_until_it_is_finished_by_hand(upstream: Simulator) -> None:
    batch = create(upstream, line("a", user="stuck"))
    upstream.advance(80_000)
    assert look(upstream, batch)["status"] == "in_progress"
    assert upstream.finish() == 1
    assert look(upstream, batch)["status"] == "completed"


def test_the_ledger_knows_what_was_paid_twice(upstream: Simulator) -> None:
    finished(upstream, line("a", "once"), line("b", "twice"))
    body = {"messages": [{"content": "twice", "role": "user"}], "model": "gpt-4o-mini"}
    assert call(upstream, f"POST {CHAT}", json=body).status_code == 200
    billed = upstream.stats()["billed"]
    assert (billed["requests"], billed["distinct"], len(billed["more_than_once"])) == (3, 2, 1)
    assert billed["by_custom_id"] == {"a": 1, "b": 1}


def test_input_lines_are_kept_byte_for_byte(upstream: Simulator) -> None:
    odd = line("a").replace('"messages"', '"seed": 9007199254740993, "x": [1e400, 1.0, -0],  "messages"')
    odd = odd.replace("hi", "é\u2028", 1)
    batch = create(upstream, odd, line("b"))
    upstream.advance(10)
    assert look(upstream, batch)["status"] == "completed"
    assert upstream.lines(batch["id"]) == [odd.encode(), line("b").encode()]


def test_a_key_sees_only_what_is_its_own(upstream: Simulator) -> None:
    batch, bob = create(upstream, line("a")), {"authorization": "Bearer sk-bob"}
    for path in (f"GET /v1/files/{batch['input_file_id']}", f"GET /v1/batches/{batch['id']}"):
        assert call(upstream, path).status_code == 200
        assert call(upstream, path, bob).status_code == 404
    assert call(upstream, "GET /v1/batches", bob).json()["data"] == []


def test_batches_are_listed_newest_first_in_pages(upstream: Simulator, client: OpenAI) -> None:
    ids = [create(upstream, line("a"))["id"] for _ in range(5)]
    page = client.batches.list(limit=2)
    assert ([batch.id for batch in page.data], page.has_more) == (ids[:2:-1], True)
    assert [batch.id for batch in client.batches.list(limit=2)] == ids[::-1]


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"input_file_id": "file-unknown"}, "input_file_id"),
        ({"endpoint": "/v1/audio/speech"}, "endpoint"),
        ({"completion_window": "1h"}, "completion_window"),
        ({"metadata": {str(index): "x" for index in range(17)}}, "metadata"),
        ({"metadata": {"k": "x" * 513}}, "metadata"),
        ({"output_expires_after": {"anchor": "created_at", "seconds": 60}}, "output_expires_after.seconds"),
    ],
)
def test_an_invalid_batch_is_refused_at_create(upstream: Simulator, change: dict[str, Any], param: str) -> None:
    body = {"input_file_id": upload(upstream, line("a")), "endpoint": CHAT, "completion_window": "24h"}
    answer = call(upstream, "POST /v1/batches", json=body | change)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


def test_files_expire_when_asked_to(upstream: Simulator) -> None:
    form = {"purpose": "batch", "expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"}
    file = call(upstream, "POST /v1/files", data=form, files={"file": ("in.jsonl", b"x")}).json()
    assert file["expires_at"] - file["created_at"] == 3600
    assert call(upstream, f"GET /v1/files/{file['id']}").status_code == 200
    upstream.advance(3601)
    assert call(upstream, f"GET /v1/files/{file['id']}").status_code == 404
