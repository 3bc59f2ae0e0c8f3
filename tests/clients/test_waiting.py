"""What a client meets that waits longer than it knows: signs of life, late ends, retries that find their request."""

from __future__ import annotations

import asyncio
import http.client
import json
import time

import openai
import pytest

from tests.clients.asking import Front, after, python
from tests.running import Stack, until

TIMEOUT_SECONDS = 2


def test_an_unmodified_sdk_waits_for_several_times_its_timeout_with_one_request(front: Front) -> None:
    report = front.run(python("sync"), "short", "hello", TIMEOUT_SECONDS)

    assert report.get("content") == "echo:hello", report
    assert front.paid("short") == 1


def test_signs_of_life_come_in_time_and_the_body_follows_with_its_exact_bytes(front: Front) -> None:
    began = time.monotonic()
    with front.ask("signs") as answer:
        first = time.monotonic() - began
        headers, body = answer.headers, answer.read()

    assert first < 1.5
    assert answer.status == 200
    assert headers["content-type"] == "application/json"
    assert headers["x-batch-task-id"]
    assert headers["x-batch-lane"] == "batch"
    assert body.startswith(b" ")
    assert body.lstrip(b" ").startswith(b"{")
    assert json.loads(body)["choices"][0]["message"]["content"] == "echo:hello"


def test_a_caller_who_says_that_it_is_impatient_hears_sooner(front: Front) -> None:
    began = time.monotonic()
    with front.ask("impatient", headers={"x-stainless-read-timeout": "0.4"}):
        assert time.monotonic() - began < 0.8


def test_before_the_first_sign_of_life_the_status_is_free_and_all_headers_are_there(front: Front) -> None:
    front.upstream.configure(batch_delay=0.1, validate_delay=0, finalize_delay=0)
    with (
        front.ask("fail-400", headers={"X-Batch-Mode": "sync"}) as refused,
        front.ask("quick", headers={"X-Batch-Mode": "sync"}) as answer,
    ):
        assert refused.status == 400
        assert answer.status == 200
        assert answer.headers["x-batch-lane"] == refused.headers["x-batch-lane"] == "sync"
        assert answer.headers["x-request-id"]
        assert int(answer.headers["x-batch-wait-ms"]) < 60_000


def test_a_late_error_breaks_off_and_the_sdks_own_retry_gets_the_true_status(front: Front) -> None:
    with (
        openai.OpenAI(base_url=f"{front.url}/v1", api_key=front.key, timeout=TIMEOUT_SECONDS) as client,
        pytest.raises(openai.BadRequestError) as caught,
    ):
        client.chat.completions.create(model="fail-400", messages=[{"role": "user", "content": "late"}])

    assert caught.value.code == "context_length_exceeded"
    assert caught.value.response.request.headers["x-stainless-retry-count"] == "1"
    assert front.paid("fail-400") == 1


def test_a_late_error_is_never_a_complete_200(front: Front) -> None:
    with front.ask("fail-429", key="late") as answer:
        assert answer.status == 200
        with pytest.raises(http.client.IncompleteRead):
            answer.read()

    with front.ask("fail-429", key="late", retry=1) as answer:
        assert answer.status == 429
    time.sleep(0.4)  # as an SDK does before it comes again
    with front.ask("fail-429", key="late", retry=2) as answer:  # the 429 was delivered: this one is new
        assert answer.status == 200
    until(lambda: front.paid("fail-429") == 2, "the new one is in a batch")


def test_a_late_error_to_http_1_0_resets_the_connection(front: Front) -> None:
    body = json.dumps({"model": "fail-500", "messages": [{"role": "user", "content": "old"}]}).encode()
    head = f"POST /v1/chat/completions HTTP/1.0\r\nAuthorization: Bearer {front.key}\r\n"
    with front.connect() as sock:
        sock.sendall(head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body)

        def read_all() -> None:
            while sock.recv(1000):
                pass

        with pytest.raises(ConnectionResetError):
            read_all()


def test_a_stream_pings_while_it_waits_and_the_sdk_assembles_it(front: Front) -> None:
    with front.ask("stream-raw", stream=True) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        text = answer.read()
    with (
        openai.OpenAI(base_url=f"{front.url}/v1", api_key=front.key, timeout=TIMEOUT_SECONDS) as client,
        client.chat.completions.stream(model="stream-sdk", messages=[{"role": "user", "content": "hi"}]) as stream,
    ):
        assembled = stream.get_final_completion()

    assert text.startswith(b": ping\n\n")
    assert text.endswith(b"data: [DONE]\n\n")
    assert assembled.choices[0].message.content == "echo:hi"


def test_a_late_error_of_a_stream_is_the_event_on_which_the_sdk_raises(front: Front) -> None:
    with openai.OpenAI(base_url=f"{front.url}/v1", api_key=front.key, timeout=TIMEOUT_SECONDS) as client:
        stream = client.chat.completions.create(
            model="fail-400", messages=[{"role": "user", "content": "streamed"}], stream=True
        )
        with stream, pytest.raises(openai.APIError) as caught:
            list(stream)

    assert caught.value.code == "context_length_exceeded"


@pytest.mark.parametrize("when", ["queued", "in flight", "answered"])
def test_a_client_that_comes_again_finds_its_request_without_any_key(front: Front, when: str) -> None:
    model = f"again-{when.replace(' ', '-')}"
    front.upstream.configure(batch_delay=2)
    front.leave(model, 0.25 if when == "queued" else 0.7, headers={"x-stainless-read-timeout": "600"})
    if when == "answered":
        until(lambda: ended(front, model), "the batch has ended")
    if when != "queued":
        time.sleep(1)  # somebody starts a program again; it does not call itself a retry
    with front.ask(model, retry=1 if when == "queued" else 0) as answer:
        assert json.loads(answer.read())["choices"][0]["message"]["content"] == "echo:hello"

    assert front.paid(model) == 1


def ended(front: Front, model: str) -> bool:
    batches = [batch for batch in front.upstream.stats()["batches"] if batch["model"] == model]
    return bool(batches) and all(batch["status"] == "completed" for batch in batches)


def test_a_retry_of_a_client_whose_front_was_killed_finds_its_request(front: Front, slow_stack: Stack) -> None:
    with front.ask("killed", headers={"x-stainless-read-timeout": "600"}) as answer:
        assert answer.status == 200  # a sign of life
        slow_stack.kill_worker_of_web()
        with pytest.raises((http.client.IncompleteRead, ConnectionError)):
            answer.read()
    began = time.monotonic()
    after(began, 0.4)
    with front.ask("killed", retry=1) as answer:
        assert json.loads(answer.read())["choices"][0]["message"]["content"] == "echo:hello"

    assert front.paid("killed") == 1


def test_equal_requests_with_impatient_clients_all_get_an_answer_of_their_own(front: Front) -> None:
    """SDKs that hide their patience, and give up and come again until there is an answer."""
    count = 40
    front.upstream.configure(batch_delay=8)

    async def sample(client: openai.AsyncOpenAI) -> str:
        answer = await client.chat.completions.create(
            model="samples",
            messages=[{"role": "user", "content": "the same"}],
            extra_headers={"x-stainless-read-timeout": "6000"},
        )
        return answer.id

    async def main() -> list[str]:
        url = f"{front.url}/v1"
        timeout = openai.Timeout(30, read=0.7)  # each attempt reaches the front
        async with openai.AsyncOpenAI(base_url=url, api_key=front.key, timeout=timeout, max_retries=30) as client:
            return await asyncio.gather(*(sample(client) for _ in range(count)))

    ids = asyncio.run(main())

    assert len(set(ids)) == count
    assert front.paid("samples") == count
