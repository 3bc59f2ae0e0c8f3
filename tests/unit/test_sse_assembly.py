"""The real SDK assembles our events to the answer that they were made of."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import openai
import pytest

from web import sse


class Teller(ThreadingHTTPServer):
    """Tells one answer as events, whatever it is asked."""

    answer: dict[str, Any]


class Handler(BaseHTTPRequestHandler):
    server: Teller

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        body = json.dumps(self.server.answer).encode()
        told = sse.PING + b"".join(sse.events(self.path, body, include_usage=True))
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Content-Length", str(len(told)))
        self.end_headers()
        self.wfile.write(told)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def teller() -> Iterator[Teller]:
    with Teller(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def client(teller: Teller) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"http://127.0.0.1:{teller.server_port}/v1", api_key="sk-x") as made:
        yield made


def call(name: str, arguments: str = "{}") -> dict[str, Any]:
    return {"id": f"call_{name}", "type": "function", "function": {"name": name, "arguments": arguments}}


TOKEN = {"token": "hi", "logprob": -0.5, "bytes": [104, 105], "top_logprobs": []}
MESSAGES: dict[str, dict[str, Any]] = {
    "content": {"content": "hello", "refusal": None},
    "tool calls": {"content": None, "tool_calls": [call("f", '{"a": 1}'), call("g")]},
    "content and tool calls": {"content": "so", "tool_calls": [call("f")]},
    "refusal": {"content": None, "refusal": "no"},
    "function call": {"content": None, "function_call": {"name": "f", "arguments": "{}"}},
}


@pytest.mark.parametrize("name", MESSAGES)
def test_a_chat_completion_comes_together_again(client: openai.OpenAI, teller: Teller, name: str) -> None:
    message = {"role": "assistant", **MESSAGES[name]}
    teller.answer = {
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m", "system_fingerprint": "fp",
        "service_tier": "default",
        "choices": [
            {"index": n, "message": message, "finish_reason": "stop",
             "logprobs": {"content": [TOKEN], "refusal": None} if name == "content" else None}
            for n in range(2)
        ],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
    }  # fmt: skip
    with client.chat.completions.stream(
        model="m", n=2, messages=[{"role": "user", "content": "x"}], stream_options={"include_usage": True}
    ) as stream:
        events = list(stream)
        final = stream.get_final_completion().to_dict()

    assert any(event.type == "chunk" for event in events)
    assert (final["id"], final["system_fingerprint"], final["usage"]) == ("chatcmpl-1", "fp", teller.answer["usage"])
    choices: Any = final["choices"]
    for choice, told in zip(choices, teller.answer["choices"], strict=True):
        assert {name: choice["message"].get(name) for name in message} == {**message, **_indexed(message)}
        assert choice["finish_reason"] == "stop"
        assert (choice["logprobs"] or {}).get("content") == (told["logprobs"] or {}).get("content")


def _indexed(message: dict[str, Any]) -> dict[str, Any]:
    """The SDK keeps each tool call's index, and looks for arguments that it can parse."""
    calls = [
        {**call, "index": n, "function": {**call["function"], "parsed_arguments": None}}
        for n, call in enumerate(message.get("tool_calls", ()))
    ]
    return {"tool_calls": calls} if calls else {}


def test_a_completion_comes_together_again(client: openai.OpenAI, teller: Teller) -> None:
    teller.answer = {
        "id": "cmpl-1", "object": "text_completion", "created": 1, "model": "m",
        "choices": [{"index": n, "text": f"text {n}", "logprobs": None, "finish_reason": "length"} for n in range(2)],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
    }  # fmt: skip
    chunks = list(client.completions.create(model="m", prompt="x", n=2, stream=True))

    assert [(c.index, c.text, c.finish_reason) for chunk in chunks for c in chunk.choices] == [
        (0, "text 0", "length"),
        (1, "text 1", "length"),
    ]
    assert [chunk.usage and chunk.usage.total_tokens for chunk in chunks] == [None, None, 3]


def test_a_response_comes_together_again_and_its_deltas_tell_the_same(client: openai.OpenAI, teller: Teller) -> None:
    cite = {"type": "url_citation", "start_index": 0, "end_index": 2, "title": "t", "url": "https://example.org"}
    text = {"type": "output_text", "text": "hello", "annotations": [cite], "logprobs": []}
    teller.answer = {
        "id": "resp_1", "object": "response", "created_at": 1, "model": "m", "status": "completed", "error": None,
        "parallel_tool_calls": True, "tool_choice": "auto", "tools": [],
        "output": [
            {"id": "rs_1", "type": "reasoning", "summary": [{"type": "summary_text", "text": "why"}]},
            {"id": "fc_1", "type": "function_call", "status": "completed", "name": "f", "call_id": "c",
             "arguments": '{"a":1}'},
            {"id": "ct_1", "type": "custom_tool_call", "name": "g", "call_id": "d", "input": "free text"},
            {"id": "msg_1", "type": "message", "status": "completed", "role": "assistant",
             "content": [text, {"type": "refusal", "refusal": "no"}]},
        ],
    }  # fmt: skip
    told: dict[str, str] = {}
    added = []
    with client.responses.stream(model="m", input="x") as stream:
        for event in stream:
            told_as: Any = event
            if event.type.endswith(".delta"):
                told[event.type] = told.get(event.type, "") + str(told_as.delta)
            if event.type == "response.output_text.annotation.added":
                added.append(told_as.annotation.to_dict())
        final: Any = stream.get_final_response().to_dict()

    assert told == {
        "response.reasoning_summary_text.delta": "why",
        "response.function_call_arguments.delta": '{"a":1}',
        "response.custom_tool_call_input.delta": "free text",
        "response.output_text.delta": "hello",
        "response.refusal.delta": "no",
    }
    assert added == [cite]
    for item, original in zip(final["output"], teller.answer["output"], strict=True):
        assert {name: item[name] for name in original if name != "content"} == {
            name: value for name, value in original.items() if name != "content"
        }
    assert final["output"][3]["content"][0]["annotations"] == [cite]


def test_an_error_in_an_unknown_shape_still_is_an_event_on_which_the_sdk_raises() -> None:
    for body in (b"<html>", b"{}", b'"text"'):
        assert b'data: {"error":{"message"' in sse.error(body)
