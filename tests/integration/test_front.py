"""The front's own surface: what it refuses, what it relays, what it remembers."""

from __future__ import annotations

import concurrent.futures
import json
import os
from collections.abc import Iterator

import openai
import pytest
import requests

from tests.integration.test_pipeline import ask, batches_of
from tests.running import Stack, until
from tests.simulator.server import Simulator

CHAT = "/v1/chat/completions"
GOOD = {"model": "front", "messages": [{"role": "user", "content": "hello"}]}


def post(stack: Stack, body: bytes, path: str = CHAT, **headers: str) -> requests.Response:
    return requests.post(
        stack.url + path, data=body, headers={"Authorization": "Bearer sk-front", **headers}, timeout=60
    )


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "not valid JSON"),
        (b"hello", "not valid JSON"),
        (b"[1]", "must be a JSON object"),
        (b'{"messages": []}', "model"),
        (b'{"model": ""}', "model"),
        (b'{"model": 7}', "model"),
        (b'{"model": "m", "stream": "yes"}', "stream"),
        (b'{"model": "m", "x": NaN}', "not valid JSON"),
        (b'{"model": "\xff"}', "UTF-8"),
        (b'{"a":' * 5000 + b"1" + b"}" * 5000, "nested"),
    ],
)
def test_bad_input_gets_a_400_in_openais_shape_at_once(stack: Stack, body: bytes, words: str) -> None:
    answer = post(stack, body)

    assert answer.status_code == 400
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    assert words in error["message"]


def test_a_body_over_the_limit_gets_413_in_openais_shape(stack: Stack) -> None:
    answer = post(stack, b'{"model": "m", "x": "' + b"x" * 25_000_001 + b'"}')

    assert answer.status_code == 413
    assert answer.json()["error"]["code"] == "request_too_large"


def test_no_authorization_gets_401_without_touching_the_upstream(stack: Stack, upstream: Simulator) -> None:
    before = len(upstream.log())
    answer = requests.post(stack.url + CHAT, json=GOOD, timeout=60)

    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "missing_api_key"
    assert len(upstream.log()) == before


def test_an_unknown_batch_mode_is_refused(stack: Stack) -> None:
    answer = post(stack, json.dumps(GOOD).encode(), **{"X-Batch-Mode": "soon"})

    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "X-Batch-Mode"


def test_batch_mode_sync_is_answered_at_full_price_without_a_batch(client: openai.OpenAI, upstream: Simulator) -> None:
    raw = client.chat.completions.with_raw_response.create(
        model="sync-mode", messages=[{"role": "user", "content": "now"}], extra_headers={"X-Batch-Mode": "sync"}
    )

    assert raw.parse().choices[0].message.content == "echo:now"
    assert raw.headers["x-batch-lane"] == "sync"
    assert batches_of(upstream, "sync-mode") == []


def test_an_upstream_that_is_down_for_a_moment_is_asked_again_on_the_synchronous_lane(
    client: openai.OpenAI, upstream: Simulator
) -> None:
    upstream.configure(faults=[{"path": "POST /v1/chat/completions", "kind": "503", "count": 1}])

    answer = client.with_options(max_retries=0).chat.completions.create(
        model="sync-retry", messages=[{"role": "user", "content": "again"}], extra_headers={"X-Batch-Mode": "sync"}
    )

    assert answer.choices[0].message.content == "echo:again"


@pytest.mark.parametrize("header", [{"OpenAI-Beta": "x=1"}, {}])
def test_what_a_line_cannot_carry_is_relayed(stack: Stack, upstream: Simulator, header: dict[str, str]) -> None:
    model = "carried" if header else "query"
    body = json.dumps({**GOOD, "model": model}).encode()
    answer = post(stack, body, CHAT if header else CHAT + "?tag=1", **header)

    assert answer.json()["choices"][0]["message"]["content"] == "echo:hello"
    assert "x-batch-lane" not in answer.headers
    assert batches_of(upstream, model) == []


def test_an_idempotency_key_attaches_to_what_it_repeats(stack: Stack, upstream: Simulator) -> None:
    body = json.dumps({**GOOD, "model": "idempotent"}).encode()
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda _: post(stack, body, **{"Idempotency-Key": "once"}), range(8)))
    later = post(stack, body, **{"Idempotency-Key": "once"})

    assert {answer.content for answer in together} == {later.content}
    assert {answer.headers["x-batch-task-id"] for answer in together} == {later.headers["x-batch-task-id"]}
    assert [batch["lines"] for batch in batches_of(upstream, "idempotent")] == [1]


def test_the_same_idempotency_key_with_another_body_is_a_conflict(stack: Stack) -> None:
    first = post(stack, json.dumps({**GOOD, "model": "conflict"}).encode(), **{"Idempotency-Key": "clash"})
    second = post(stack, json.dumps({**GOOD, "model": "conflict", "n": 2}).encode(), **{"Idempotency-Key": "clash"})

    assert first.status_code == 200
    assert second.status_code == 422
    assert second.json()["error"]["code"] == "idempotency_key_reused"


def test_an_idempotency_key_is_its_credentials_own(stack: Stack) -> None:
    body = json.dumps({**GOOD, "model": "scoped"}).encode()
    mine = post(stack, body, **{"Idempotency-Key": "shared"})
    other = requests.post(
        stack.url + CHAT, data=body, headers={"Authorization": "Bearer sk-b", "Idempotency-Key": "shared"}, timeout=60
    )

    assert mine.headers["x-batch-task-id"] != other.headers["x-batch-task-id"]
    assert mine.json()["id"] != other.json()["id"]


def test_equal_requests_without_a_key_are_separate_samples(client: openai.OpenAI) -> None:
    def sample(_: int) -> str:
        return client.chat.completions.create(model="samples", messages=[{"role": "user", "content": "same"}]).id

    with concurrent.futures.ThreadPoolExecutor(10) as pool:
        ids = list(pool.map(sample, range(10)))

    assert len(set(ids)) == 10


def test_other_endpoints_are_relayed_with_query_headers_and_body(stack: Stack) -> None:
    body = os.urandom(300_000)
    answer = requests.put(
        stack.url + "/v1/echo/a%2Fb//c?x=1&y=%20&x=2",
        data=body,
        headers={"X-Own": "value", "Idempotency-Key": "kept-out", "Authorization": "Bearer sk-echo"},
        timeout=60,
    )

    seen = answer.json()
    assert seen["method"] == "PUT"
    assert seen["query"] == "x=1&y=%20&x=2"
    assert seen["body_length"] == len(body)
    names = {name.lower() for name, _ in seen["headers"]}
    assert "x-own" in names
    assert "idempotency-key" not in names


def test_a_relayed_stream_arrives_event_by_event(stack: Stack) -> None:
    url = stack.url + "/v1/echo/stream?n=3&delay=0.2"
    headers = {"Authorization": "Bearer sk-echo"}
    with requests.get(url, headers=headers, stream=True, timeout=60) as answer:
        pieces = [piece for piece in answer.iter_content(None) if piece]

    assert len(pieces) >= 3


def test_the_sdks_other_calls_work_through_the_relay(client: openai.OpenAI) -> None:
    assert list(client.models.list())
    with pytest.raises(openai.NotFoundError):
        client.fine_tuning.jobs.retrieve("ftjob-none")


def test_an_unreachable_upstream_is_a_502_in_openais_shape(stack: Stack, upstream: Simulator) -> None:
    upstream.configure(faults=[{"path": "GET /v1/models", "kind": "reset_before", "count": 2}])
    answer = requests.get(stack.url + "/v1/models", headers={"Authorization": "Bearer sk-front"}, timeout=60)

    assert answer.status_code == 502
    assert answer.json()["error"]["code"] == "upstream_unreachable"


def test_health_and_readiness_answer(stack: Stack) -> None:
    assert requests.get(stack.url + "/healthz", timeout=10).json() == {"status": "ok"}
    assert requests.get(stack.url + "/readyz", timeout=10).json() == {"status": "ok"}


TIMES = {"avg_time_ms", "p50_time_ms", "p95_time_ms", "p99_time_ms"}


def test_stats_have_the_original_keys_and_count_each_request_once(stack: Stack, client: openai.OpenAI) -> None:
    before = requests.get(stack.url + "/stats", timeout=10).json()
    for _ in range(3):
        ask(client, "count me", "stats")
    with pytest.raises(openai.BadRequestError):
        ask(client, "no", "fail-400")
    until(
        lambda: (
            (now := requests.get(stack.url + "/stats", timeout=10).json())["batches"]["successful"]
            == now["batches"]["total"] - now["batches"]["failed"]
        ),
        "all batches have ended",
    )
    after = requests.get(stack.url + "/stats", timeout=10).json()

    assert set(after["requests"]) == {"total", "successful", "failed", "synthesized_error_responses"} | TIMES
    assert set(after["batches"]) == {"total", "successful", "failed"} | TIMES
    gained = {name: after["requests"][name] - before["requests"][name] for name in ("total", "successful", "failed")}
    assert gained == {"total": 4, "successful": 3, "failed": 1}
    assert after["batches"]["total"] - before["batches"]["total"] == 4
    assert 0 < after["requests"]["p50_time_ms"] <= after["requests"]["p99_time_ms"]


def test_a_chunked_body_over_the_limit_gets_413_too(stack: Stack) -> None:
    def pieces() -> Iterator[bytes]:
        yield b'{"model": "m", "x": "'
        for _ in range(26):
            yield b"x" * 1_000_000
        yield b'"}'

    answer = requests.post(stack.url + CHAT, data=pieces(), headers={"Authorization": "Bearer sk-front"}, timeout=60)

    assert answer.status_code == 413


@pytest.mark.parametrize("method", ["OPTIONS", "HEAD", "DELETE", "PURGE"])
@pytest.mark.parametrize("path", [CHAT, "/v1/models", "/"])
def test_every_other_method_reaches_the_upstream(stack: Stack, upstream: Simulator, method: str, path: str) -> None:
    before = len(upstream.log())
    requests.request(method, stack.url + path, headers={"Authorization": "Bearer sk-front"}, timeout=60)

    if path != "/":  # the simulator's log begins at /v1
        assert upstream.log()[before:][0]["method"] == method


def test_an_upstream_that_refuses_a_body_before_reading_it_is_heard(stack: Stack, upstream: Simulator) -> None:
    upstream.configure(faults=[{"path": "POST /v1/uploads", "kind": "413", "count": 1}])
    answer = requests.post(
        stack.url + "/v1/uploads", data=b"x" * 5_000_000, headers={"Authorization": "Bearer sk-front"}, timeout=60
    )

    assert answer.status_code == 413
