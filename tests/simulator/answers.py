"""Answers that derive from the request, so that a caller can tell that an answer is *its* answer.

Text is `echo:` and the question when that has at most 64 bytes, else its SHA-256; embeddings come from the input's
hash. A question `say:TEXT` is answered TEXT, in a chat that offers tools as a call of the first one with these
arguments. Every answer has an id of its own, so that one line delivered twice can be told from two lines.
"""

from __future__ import annotations

import base64
import hashlib
import struct
import uuid
from typing import Any

from tests.simulator.config import Config
from tests.simulator.prompts import (
    CHAT,
    COMPLETIONS,
    EMBEDDINGS,
    MODERATIONS,
    RESPONSES,
    Body,
    inputs_of,
    model_of,
    text_of,
    utf8,
)

ECHO_BYTES = 64
SAY = "say:"
MAX_DIMENSIONS = 8192
CATEGORIES = (
    "harassment harassment/threatening hate hate/threatening illicit illicit/violent self-harm "
    "self-harm/instructions self-harm/intent sexual sexual/minors violence violence/graphic"
).split()


def answer(endpoint: str, body: Body, config: Config, at: float, tier: str = "default") -> dict[str, Any]:
    """The body of a successful answer, given at a moment by the simulator's clock."""
    reply = WRITERS[endpoint](body, config)
    stamp: dict[str, Any] = {"system_fingerprint": f"t={int(at * 1000)}"}
    if endpoint in (CHAT, COMPLETIONS):
        stamp |= {"created": int(at), "service_tier": tier}
    elif endpoint == RESPONSES:
        stamp |= {"created_at": int(at), "service_tier": tier}
    reply |= stamp | {"model": model_of(endpoint, body)}
    if config.reply_bytes:
        reply["padding"] = "." * config.reply_bytes
    return reply


def echo(question: str) -> str:
    """The text of an answer."""
    if question.startswith(SAY):
        return question.removeprefix(SAY)
    data = utf8(question)
    return "echo:" + (data.decode() if len(data) <= ECHO_BYTES else hashlib.sha256(data).hexdigest())


def vector(text: str, dimensions: int) -> list[float]:
    """Component i is (byte - 128) / 128 over the bytes of sha256(text), sha256(text + "#1"), and so on."""
    data = bytearray()
    while len(data) < dimensions:
        salt = f"#{len(data) // 32}" if data else ""
        data += hashlib.sha256(utf8(text + salt)).digest()
    return [(byte - 128) / 128 for byte in data[:dimensions]]


def tokens(text: str) -> int:
    """A number that grows with the text, as a tokenizer's would."""
    return len(utf8(text)) // 4 + 7


def usage_of(reply: dict[str, Any]) -> tuple[int, int]:
    """Input and output tokens of an answer, whatever its endpoint calls them."""
    usage = reply.get("usage", {})
    asked = usage.get("prompt_tokens", usage.get("input_tokens", 0))
    return asked, usage.get("completion_tokens", usage.get("output_tokens", 0))


def _id(prefix: str) -> str:
    return prefix + uuid.uuid4().hex


def _samples(body: Body) -> int:
    n = body.get("n")
    return n if isinstance(n, int) and 1 <= n <= 128 else 1


def _usage(question: str, text: str, samples: int) -> dict[str, Any]:
    asked, said = tokens(question), tokens(text) * samples
    return {
        "prompt_tokens": asked,
        "completion_tokens": said,
        "total_tokens": asked + said,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
    }


def _chat(body: Body, _: Config) -> dict[str, Any]:
    question, samples = text_of(CHAT, body), _samples(body)
    text = echo(question)
    message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None, "annotations": []}
    finish = "stop"
    if question.startswith(SAY) and (tools := _functions(body)):
        called = {"name": tools[0], "arguments": text}
        message |= {"content": None, "tool_calls": [{"id": _id("call_"), "type": "function", "function": called}]}
        finish = "tool_calls"
    return {
        "id": _id("chatcmpl-"),
        "object": "chat.completion",
        "choices": [
            {"index": index, "message": message, "logprobs": None, "finish_reason": finish} for index in range(samples)
        ],
        "usage": _usage(question, text, samples),
    }


def _functions(body: Body) -> list[str]:
    """Names of the tools that the caller offers."""
    tools = body.get("tools")
    offered = [tool.get("function") for tool in tools if isinstance(tool, dict)] if isinstance(tools, list) else []
    return [str(one["name"]) for one in offered if isinstance(one, dict) and "name" in one]


def _completion(body: Body, _: Config) -> dict[str, Any]:
    question, samples = text_of(COMPLETIONS, body), _samples(body)
    text = echo(question)
    return {
        "id": _id("cmpl-"),
        "object": "text_completion",
        "choices": [
            {"index": index, "text": text, "logprobs": None, "finish_reason": "stop"} for index in range(samples)
        ],
        "usage": _usage(question, text, samples),
    }


def _response(body: Body, _: Config) -> dict[str, Any]:
    question = text_of(RESPONSES, body)
    text = echo(question)
    asked, said = tokens(question), tokens(text)
    part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    message = {"type": "message", "id": _id("msg_"), "status": "completed", "role": "assistant", "content": [part]}
    return {
        "id": _id("resp_"),
        "object": "response",
        "status": "completed",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": body.get("instructions"),
        "metadata": body.get("metadata") or {},
        "output": [message],
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "usage": {
            "input_tokens": asked,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": said,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": asked + said,
        },
    }


def _embedding(body: Body, config: Config) -> dict[str, Any]:
    wanted = body.get("dimensions")
    valid = isinstance(wanted, int) and 1 <= wanted <= MAX_DIMENSIONS
    dimensions = int(wanted) if wanted and valid else config.dimensions
    inputs = inputs_of(body)
    data: list[dict[str, Any]] = []
    for index, text in enumerate(inputs):
        values = vector(text, dimensions)
        packed = body.get("encoding_format") == "base64"
        embedding = base64.b64encode(struct.pack(f"<{dimensions}f", *values)).decode() if packed else values
        data.append({"object": "embedding", "index": index, "embedding": embedding})
    asked = sum(map(tokens, inputs))
    return {"object": "list", "data": data, "usage": {"prompt_tokens": asked, "total_tokens": asked}}


def _moderation(body: Body, _: Config) -> dict[str, Any]:
    results = [
        {
            "flagged": False,
            "categories": dict.fromkeys(CATEGORIES, False),
            "category_scores": dict.fromkeys(CATEGORIES, 0.0) | {"violence": (vector(text, 1)[0] + 1) / 2},
            "category_applied_input_types": {name: ["text"] for name in CATEGORIES},
        }
        for text in inputs_of(body)
    ]
    return {"id": _id("modr-"), "results": results}


WRITERS = {
    CHAT: _chat,
    EMBEDDINGS: _embedding,
    RESPONSES: _response,
    COMPLETIONS: _completion,
    MODERATIONS: _moderation,
}
