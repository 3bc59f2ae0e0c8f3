"""What is fuzzed of Anthropic's and Gemini's dialects: bodies, answers told as events, result lines."""

from __future__ import annotations

import contextlib
import json
from typing import Final
from unittest import mock

from hypothesis import strategies as st

from tasks import outcomes, vault
from tasks.errors import InvalidRequest, UpstreamTrouble
from tasks.models import Group, Reply
from tasks.providers.anthropic import Anthropic
from tasks.providers.catalogue import build
from tasks.providers.gemini import Gemini
from tasks.settings import Settings
from tests.fuzz import json_texts
from web import generate, messages, replies

# Bodies

_FIELDS = st.sampled_from([
    "model", "stream", "max_tokens", "speed", "messages", "contents", "requests", "content", "parts", "text", "type",
    "stream_options", "generationConfig",
])  # fmt: skip
_BODIES = json_texts.values(_FIELDS) | st.fixed_dictionaries(
    {"model": st.text(min_size=1, max_size=5)},
    optional={
        "stream": st.booleans() | st.none(), "max_tokens": st.integers(-1, 9), "requests": json_texts.values(_FIELDS),
        "speed": st.none() | st.sampled_from(["fast", "standard"]), "x": json_texts.values(_FIELDS),
    },
)  # fmt: skip
BODY: Final = {
    "action": st.sampled_from(
        ["messages", "generateContent", "streamGenerateContent", "embedContent", "batchEmbedContents"]
    ),
    "body": json_texts.texts(_BODIES) | st.binary(max_size=100),
    "alt": st.sampled_from([None, "sse", "json", "media", ""]),
    "batched": st.booleans(),
}


def body(action: str, body: bytes, alt: str | None, batched: bool) -> None:
    """It is refused with a sentence, or its line is one line and means the same."""
    try:
        if action == "messages":
            parsed = messages.parse(body, batched=batched)
        else:
            parsed = generate.parse(action, body, "m", alt)
    except InvalidRequest:
        return
    assert b"\n" not in parsed.line
    assert b"\r" not in parsed.line
    before, after = json.loads(body), json.loads(parsed.line)
    if action == "messages":
        before.pop("stream", None)
    assert before == after
    assert parsed.model


# An answer that is told as events

_BLOCK_FIELDS = st.sampled_from(["type", "text", "thinking", "signature", "input", "citations", "id", "name", "usage"])
_BLOCKS = st.fixed_dictionaries(
    {"type": st.sampled_from(["text", "thinking", "tool_use", "server_tool_use", "redacted_thinking", "x"])},
    optional={
        "text": st.text(max_size=5), "thinking": st.none() | st.text(max_size=5), "signature": st.text(max_size=3),
        "input": json_texts.values(_BLOCK_FIELDS), "citations": json_texts.values(_BLOCK_FIELDS),
        "id": st.text(max_size=3),
    },
)  # fmt: skip
_MESSAGES = st.fixed_dictionaries(
    {"id": st.text(max_size=3), "content": st.lists(_BLOCKS, max_size=3) | json_texts.values(_BLOCK_FIELDS)},
    optional={
        "usage": st.fixed_dictionaries({"input_tokens": st.integers()}) | json_texts.values(_BLOCK_FIELDS),
        "stop_reason": st.none() | st.text(max_size=4), "stop_sequence": st.none(), "container": st.none(),
    },
)  # fmt: skip
ANSWER: Final = {"body": json_texts.texts(_MESSAGES)}


def answer(body: bytes) -> None:
    """It becomes events, each of them one line of JSON under its own name, or stays as it is."""
    reply = Reply.of_upstream(200, {}, body)
    told = replies.streamed(reply, "/v1/messages", include_usage=False)
    if told is reply:
        return
    for event in told.body.removesuffix(b"\n\n").split(b"\n\n"):
        name, data = event.split(b"\ndata: ", 1)
        assert json.loads(data)["type"].encode() == name.removeprefix(b"event: ")


# Result files

_LINE_FIELDS = st.sampled_from(["key", "custom_id", "result", "response", "error", "code", "message", "type", "status"])
_ID = st.sampled_from(["a" * 32, "a" * 32 + "-0-2", "a" * 32 + "-1-2", "a" * 32 + "-9-2", "x", ""])
_ERROR = json_texts.values(_LINE_FIELDS) | st.fixed_dictionaries(
    {"code": st.integers(-1, 600), "message": st.text(max_size=5)}
)
_GOOGLE = st.fixed_dictionaries(
    {"key": _ID},
    optional={
        "response": json_texts.values(_LINE_FIELDS) | st.fixed_dictionaries({"embedding": st.just({"values": [1.0]})}),
        "error": _ERROR,
    },
)
_CLAUDE = st.fixed_dictionaries({
    "custom_id": _ID,
    "result": st.fixed_dictionaries(
        {"type": st.sampled_from(["succeeded", "errored", "expired", "canceled", "x"])},
        optional={
            "message": json_texts.values(_LINE_FIELDS), "error": _ERROR | st.fixed_dictionaries({"error": _ERROR}),
        },
    ),
})  # fmt: skip
RESULTS: Final = {
    "dialect": st.sampled_from(["anthropic", "gemini"]),
    "lines": st.lists(
        json_texts.texts(_GOOGLE | _CLAUDE)
        | json_texts.texts(json_texts.values(_LINE_FIELDS))
        | st.binary(max_size=30),
        max_size=6,
    ),
    "status": st.sampled_from(["completed", "expired", "cancelled", "failed", ""]),
}
_known = build(Settings())


def results(dialect: str, lines: list[bytes], status: str) -> None:
    """Each line is read, or cannot be read, and its reply can be passed on."""
    with mock.patch.object(vault, "open_sealed", return_value="x-api-key\nk"):
        upstream = (
            Anthropic(Group(credential="c", endpoint="/v1/messages", model=""), _known["anthropic"])
            if dialect == "anthropic"
            else Gemini(Group(credential="c", endpoint="batchEmbedContents", model="m"), _known["gemini"])
        )
    for text in lines:
        with contextlib.suppress(ValueError, RecursionError, UpstreamTrouble):
            line = upstream.parse(text)
            end = outcomes.line_end(line, upstream_id="batch_1", upstream_status=status) if line else None
            if end and end.reply is not None:
                assert 200 <= end.reply.status < 600
                assert end.reply.status not in outcomes.BODILESS
                replies.to_response(end.reply, task_id="t", lane="batch", waited_ms=1).get_wsgi_headers({})
