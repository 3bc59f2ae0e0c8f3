"""Anthropic's bodies, and its events as its own SDK puts them together again."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import pytest

from tasks.errors import InvalidRequest
from tests import slow_sdks as sdks
from web import messages, sse

ANSWER: dict[str, Any] = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude",
    "content": [
        {"type": "thinking", "thinking": "hm", "signature": "sig"},
        {"type": "redacted_thinking", "data": "xyz"},
        {
            "type": "text",
            "text": "said",
            "citations": [
                {
                    "type": "char_location",
                    "cited_text": "a",
                    "document_index": 0,
                    "document_title": None,
                    "start_char_index": 0,
                    "end_char_index": 1,
                    "file_id": None,
                }
            ],
        },
        {"type": "tool_use", "id": "toolu_1", "name": "note", "input": {"n": 9007199254740993, "deep": [{}]}},
        {"type": "tool_use", "id": "toolu_2", "name": "none", "input": {}},
    ],
    "stop_reason": "tool_use",
    "stop_sequence": None,
    "usage": {"input_tokens": 3, "output_tokens": 4, "cache_read_input_tokens": 2},
}


def told(body: bytes) -> bytes:
    return b"".join(sse.events("/v1/messages", body, include_usage=False))


def client_of(stream: bytes) -> sdks.anthropic.Anthropic:
    def answer(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=stream)

    return sdks.anthropic.Anthropic(
        api_key="x", max_retries=0, http_client=httpx2.Client(transport=httpx2.MockTransport(answer))
    )


def test_the_sdk_puts_the_events_together_to_the_same_message() -> None:
    client = client_of(sse.ping("anthropic") + told(json.dumps(ANSWER).encode()))

    with client.messages.stream(model="m", max_tokens=9, messages=[]) as stream:
        final = stream.get_final_message()

    found: Any = final.to_dict(exclude_unset=True)
    for block in found["content"]:
        block.pop("parsed_output", None)  # the SDK's own
    assert {name: value for name, value in found.items() if name in ANSWER} == ANSWER


def test_a_late_error_is_raised_by_the_sdk() -> None:
    body = b'{"type":"error","error":{"type":"overloaded_error","message":"busy"}}'
    client = client_of(sse.ping("anthropic") + sse.error(body, "anthropic"))

    with pytest.raises(sdks.anthropic.APIStatusError, match="busy"):
        list(client.messages.create(model="m", max_tokens=9, messages=[], stream=True))


@pytest.mark.parametrize(("name", "value"), [("speed", b'"fast"'), ("max_tokens", b"0"), ("stream_options", b"{}")])
def test_what_a_batch_cannot_do_is_refused_by_name(name: str, value: bytes) -> None:
    with pytest.raises(InvalidRequest, match=f"'{name}'"):
        messages.parse(b'{"model":"m","%s":%s}' % (name.encode(), value), batched=True)


def test_a_refusal_says_why_and_then_once_what_to_do() -> None:
    with pytest.raises(InvalidRequest) as caught:
        messages.parse(b'{"model":"m","speed":"fast"}', batched=True)

    assert str(caught.value) == (
        "'speed' cannot be carried by a batch: fast mode has none. Take it out, or send X-Batch-Mode: sync."
    )


def test_sent_at_once_it_may_do_that() -> None:
    assert messages.parse(b'{"model":"m","speed":"fast"}', batched=False).line == b'{"model":"m","speed":"fast"}'


def test_only_stream_is_taken_out() -> None:
    parsed = messages.parse(b'{"model":"m","stream":true,"max_tokens":9,"odd":1e400}', batched=True)

    assert parsed.stream
    assert parsed.line == b'{"model":"m","max_tokens":9,"odd":1e400}'
