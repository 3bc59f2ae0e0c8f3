"""Streamed answers: the same answer as a whole one, cut into server-sent events as OpenAI cuts them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from tests.simulator.greenlets import sleep
from tests.simulator.prompts import CHAT, COMPLETIONS, RESPONSES

DONE = b"data: [DONE]\n\n"
Reply = dict[str, Any]


def event(data: Reply, name: str | None = None) -> bytes:
    """One server-sent event."""
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(data)}\n\n".encode()


def paced(events: Iterable[bytes], delay: float) -> Iterator[bytes]:
    """The events with a pause between them."""
    for index, piece in enumerate(events):
        if index:
            sleep(delay)
        yield piece


def _halves(text: str) -> tuple[str, str]:
    return text[: len(text) // 2], text[len(text) // 2 :]


def _chat(reply: Reply, include_usage: bool) -> Iterator[bytes]:
    shared = {name: reply[name] for name in ("id", "created", "model", "service_tier", "system_fingerprint")}
    shared["object"] = "chat.completion.chunk"

    def chunk(index: int, delta: Reply, finish: str | None = None) -> bytes:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}
        return event(shared | {"choices": [choice]})

    for choice in reply["choices"]:
        index, message = choice["index"], choice["message"]
        yield chunk(index, {"role": "assistant", "content": "", "refusal": None})
        for part in _halves(message["content"] or ""):
            yield chunk(index, {"content": part})
        if "tool_calls" in message:
            yield chunk(index, {"tool_calls": [{"index": at, **call} for at, call in enumerate(message["tool_calls"])]})
        yield chunk(index, {}, choice["finish_reason"])
    if include_usage:
        yield event(shared | {"choices": [], "usage": reply["usage"]})
    yield DONE


def _completion(reply: Reply, include_usage: bool) -> Iterator[bytes]:
    shared = {name: reply[name] for name in ("id", "object", "created", "model", "system_fingerprint")}
    for choice in reply["choices"]:
        first, second = _halves(choice["text"])
        yield event(shared | {"choices": [choice | {"text": first, "finish_reason": None}]})
        yield event(shared | {"choices": [choice | {"text": second}]})
    if include_usage:
        yield event(shared | {"choices": [], "usage": reply["usage"]})
    yield DONE


def _response(reply: Reply, _: bool) -> Iterator[bytes]:
    message = reply["output"][0]
    begun = reply | {"status": "in_progress", "output": [], "usage": None}
    where = {"item_id": message["id"], "output_index": 0, "content_index": 0}
    events: list[Reply] = [{"type": "response.created", "response": begun}]
    for part in _halves(message["content"][0]["text"]):
        events.append({"type": "response.output_text.delta", "delta": part, "logprobs": [], **where})
    events.append({"type": "response.completed", "response": reply})
    for number, data in enumerate(events):
        yield event(data | {"sequence_number": number}, data["type"])


WRITERS = {CHAT: _chat, COMPLETIONS: _completion, RESPONSES: _response}
