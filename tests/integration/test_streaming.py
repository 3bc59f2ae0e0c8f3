"""`stream: true` through a batch, read by the real SDK."""

from __future__ import annotations

import openai
import pytest

from tests.integration.test_pipeline import batches_of
from tests.simulator.server import Simulator


def test_a_chat_stream_tells_every_choice_and_the_usage(client: openai.OpenAI, upstream: Simulator) -> None:
    text = {0: "", 1: ""}
    finished, usage = {}, None
    with client.chat.completions.create(
        model="stream-chat",
        n=2,
        messages=[{"role": "user", "content": "hello"}],
        stream=True,
        stream_options={"include_usage": True},
    ) as stream:
        for chunk in stream:
            usage = chunk.usage or usage
            for choice in chunk.choices:
                text[choice.index] += choice.delta.content or ""
                if choice.finish_reason:
                    finished[choice.index] = choice.finish_reason

    assert text == {0: "echo:hello", 1: "echo:hello"}
    assert finished == {0: "stop", 1: "stop"}
    assert usage is not None
    assert usage.total_tokens > 0
    [batch] = batches_of(upstream, "stream-chat")
    [line] = upstream.lines(str(batch["id"]))
    assert b"stream" not in line.replace(b"stream-chat", b"")


def test_the_sdks_own_assembly_of_a_chat_stream_gives_the_whole_answer(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(
        model="stream-assembled", messages=[{"role": "user", "content": "hello"}]
    ) as stream:
        answer = stream.get_final_completion()

    assert answer.choices[0].message.content == "echo:hello"


def test_a_completion_stream_tells_its_text(client: openai.OpenAI) -> None:
    with client.completions.create(model="stream-completion", prompt="hello", stream=True) as stream:
        assert "".join(choice.text for chunk in stream for choice in chunk.choices) == "echo:hello"


def test_a_response_stream_has_the_events_that_the_sdk_assembles(client: openai.OpenAI) -> None:
    with client.responses.stream(model="stream-response", input="hello") as stream:
        types = [event.type for event in stream]
        final = stream.get_final_response()

    assert types[0] == "response.created"
    assert "response.output_text.delta" in types
    assert types[-1] == "response.completed"
    assert final.output_text == "echo:hello"


def test_an_error_of_a_streaming_request_keeps_its_status(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(model="fail-400", messages=[{"role": "user", "content": "no"}], stream=True)
