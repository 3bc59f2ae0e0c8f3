"""A finished answer told again as events; the system tests read it with real SDKs."""

from __future__ import annotations

import json
from typing import Any

from tasks.models import Reply
from web import replies, sse


def told(endpoint: str, answer: dict[str, Any], *, usage: bool = False) -> list[dict[str, Any]]:
    text = b"".join(sse.events(endpoint, json.dumps(answer).encode(), include_usage=usage)).decode()
    parts = [block.split("data: ", 1)[1] for block in text.strip().split("\n\n")]
    return [json.loads(part) for part in parts if part != "[DONE]"]


CHAT = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "system_fingerprint": "fp",
    "choices": [
        {
            "index": 0,
            "message": {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}},
                    {"id": "b", "type": "function", "function": {"name": "g", "arguments": "{}"}},
                ],
            },
            "logprobs": None,
            "finish_reason": "tool_calls",
        }
    ],
    "usage": {"total_tokens": 3},
}


def test_tool_calls_become_deltas_with_their_index() -> None:
    _, delta, last = told("/v1/chat/completions", CHAT)

    calls = delta["choices"][0]["delta"]["tool_calls"]
    assert [(call["index"], call["function"]["name"]) for call in calls] == [(0, "f"), (1, "g")]
    assert last["choices"][0]["finish_reason"] == "tool_calls"


def test_the_usage_chunk_comes_last_and_only_when_it_was_asked_for() -> None:
    assert all("usage" not in chunk for chunk in told("/v1/chat/completions", CHAT))

    chunks = told("/v1/chat/completions", CHAT, usage=True)
    assert [chunk["usage"] for chunk in chunks] == [None, None, None, {"total_tokens": 3}]
    assert chunks[-1]["choices"] == []


def test_every_chunk_carries_the_answers_id_and_fields() -> None:
    for chunk in told("/v1/chat/completions", CHAT):
        assert chunk["object"] == "chat.completion.chunk"
        assert (chunk["id"], chunk["created"], chunk["model"], chunk["system_fingerprint"]) == (
            "chatcmpl-1",
            1,
            "m",
            "fp",
        )


def test_numbers_keep_their_bytes() -> None:
    body = b'{"id":"c","object":"chat.completion","big":9007199254740993,"one":1.0,"choices":[]}'
    stream = b"".join(sse.events("/v1/completions", body, include_usage=True))

    assert b'"big":9007199254740993,"one":1.0' in stream


RESPONSE = {
    "id": "resp_1",
    "status": "incomplete",
    "output": [
        {"id": "rs_1", "type": "reasoning", "summary": [{"type": "summary_text", "text": "why"}]},
        {"id": "fc_1", "type": "function_call", "status": "completed", "name": "f", "call_id": "c", "arguments": "{}"},
        {"id": "msg_1", "type": "message", "status": "completed", "role": "assistant",
         "content": [
             {"type": "output_text", "text": "hello", "annotations": []},
             {"type": "refusal", "refusal": "no"},
         ]},
    ],
}  # fmt: skip


def test_a_response_is_told_item_by_item_in_sequence() -> None:
    events = told("/v1/responses", RESPONSE)

    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert [event["type"].removeprefix("response.") for event in events] == [
        "created", "in_progress",
        "output_item.added",
        "reasoning_summary_part.added", "reasoning_summary_text.delta", "reasoning_summary_text.done",
        "reasoning_summary_part.done",
        "output_item.done",
        "output_item.added", "function_call_arguments.delta", "function_call_arguments.done", "output_item.done",
        "output_item.added",
        "content_part.added", "output_text.delta", "output_text.done", "content_part.done",
        "content_part.added", "refusal.delta", "refusal.done", "content_part.done",
        "output_item.done",
        "incomplete",
    ]  # fmt: skip
    assert events[0]["response"]["output"] == []
    assert events[-1]["response"] == RESPONSE


def test_a_synchronous_answer_with_line_breaks_becomes_events_of_one_line_each() -> None:
    pretty = json.dumps({**CHAT, "usage": {"total_tokens": 3}}, indent=2).encode()
    text = b"".join(sse.events("/v1/chat/completions", pretty, include_usage=True))

    assert all(block.count(b"\n") == 0 for block in text.strip().split(b"\n\n"))
    assert json.loads(text.split(b"data: ")[-2])["usage"] == {"total_tokens": 3}


def test_an_answer_that_is_no_text_stays_as_it_is() -> None:
    reply = Reply.of_upstream(200, {}, b'{"choices":[],"id":"\x80"}')  # found by `make fuzz`

    assert replies.streamed(reply, "/v1/chat/completions", include_usage=True) is reply
