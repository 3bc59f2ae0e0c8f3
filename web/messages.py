"""Anthropic's messages: a body becomes a pipeline request, and a finished message its events. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from tasks.errors import InvalidRequest
from web import parsing
from web.parsing import Members, ParsedBody

#: What the batch API does not take, and why.
REFUSED: Final = {"speed": "fast mode has none"}

_EMPTY: Final = msgspec.Raw(b'""')


def parse(body: bytes, *, batched: bool) -> ParsedBody:
    """Read a body of /v1/messages.

    Args:
        batched: it is to travel in a batch.

    Raises:
        InvalidRequest: it is no JSON object with a model, or asks for what no batch can do.
    """
    parsed = parsing.parse("/v1/messages", body)
    members = parsing.members_of(body)
    if batched:
        for name, why in REFUSED.items():
            if name in members and bytes(members[name]) not in {b"null", b'"standard"'}:
                raise InvalidRequest(
                    f"'{name}' cannot be carried by a batch: {why}. Take it out, or send X-Batch-Mode: sync.",
                    param=name,
                )
        if bytes(members.get("max_tokens", b"")) == b"0":
            raise InvalidRequest("'max_tokens' must be above 0 in a batch.", param="max_tokens")
    if "stream_options" in members:
        raise InvalidRequest("'stream_options' is no parameter of messages.", param="stream_options")
    return parsed


def events(answer: Members) -> Iterator[bytes]:
    """A message as the events of a stream."""
    usage = parsing.decode_object(answer.get("usage", msgspec.Raw(b"{}")))
    begun: dict[str, Any] = {**answer, "content": [], "stop_reason": None, "stop_sequence": None}
    begun["usage"] = {**usage, "output_tokens": 0}
    yield _event("message_start", message=begun)
    for index, block in enumerate(parsing.OBJECTS.decode(answer["content"])):
        opened, deltas = _opened(block)
        yield _event("content_block_start", index=index, content_block=opened)
        for delta in deltas:
            yield _event("content_block_delta", index=index, delta=delta)
        yield _event("content_block_stop", index=index)
    ending: dict[str, Any] = {"stop_reason": parsing.NULL, "stop_sequence": parsing.NULL}
    for name in ("stop_reason", "stop_sequence", "stop_details", "container"):
        if name in answer:
            ending[name] = answer[name]
    yield _event("message_delta", delta=ending, usage=usage)
    yield _event("message_stop")


def _opened(block: Members) -> tuple[dict[str, Any], list[Mapping[str, Any]]]:
    """A block as it begins, and what is added to it."""
    opened: dict[str, Any] = dict(block)
    deltas: list[Mapping[str, Any]] = []

    def later(name: str, type_: str, empty: object, member: str = "") -> None:
        if name in block and bytes(block[name]) != b"null":
            opened[name] = empty
            deltas.append({"type": type_, member or name: block[name]})

    type_ = msgspec.json.decode(block.get("type", _EMPTY))
    if type_ == "text":
        for citation in (
            parsing.OBJECTS.decode(block["citations"]) if bytes(block.get("citations", b"")).startswith(b"[") else ()
        ):
            opened["citations"] = []
            deltas.append({"type": "citations_delta", "citation": citation})
        later("text", "text_delta", "")
    elif type_ == "thinking":
        later("thinking", "thinking_delta", "")
        later("signature", "signature_delta", "")
    elif type_ in {"tool_use", "server_tool_use", "mcp_tool_use"} and "input" in block:
        opened["input"] = {}
        deltas.append({"type": "input_json_delta", "partial_json": bytes(block["input"]).decode()})
    return opened, deltas


def _event(type_: str, **fields: Any) -> bytes:
    return f"event: {type_}\ndata: ".encode() + msgspec.json.encode({"type": type_, **fields}) + b"\n\n"
