"""A finished answer as the server-sent events that a `stream: true` caller expects. Pure.

The batch API knows no streams, so `stream` is taken out of the line and the one answer is told again
in the shape of the endpoint's events. Values keep their bytes: they are spliced, never re-read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import msgspec

from web import messages, parsing
from web.parsing import Members

DONE: Final = b"data: [DONE]\n\n"
#: A comment: every reader passes over it.
PING: Final = b": ping\n\n"


def events(endpoint: str, body: bytes, *, include_usage: bool) -> Iterator[bytes]:
    """The events of a successful answer.

    Args:
        include_usage: end with a usage chunk, as `stream_options` asked for; responses always carry theirs.

    Raises:
        LookupError, ValueError, TypeError, AttributeError, RecursionError: the body is not the endpoint's answer.
    """
    if b"\n" in body or b"\r" in body:  # a synchronous answer has line breaks between its tokens; an event must not
        body = msgspec.json.format(body, indent=-1)
    yield from STREAMS[endpoint](parsing.OBJECT.decode(body), include_usage)


def ping(dialect: str) -> bytes:
    """A sign of life: a comment, or where the SDK takes a comment for data, an empty line."""
    return b"\n" if dialect == "gemini" else PING


def error(body: bytes, dialect: str = "openai") -> bytes:
    """The event on which the SDKs raise, from an error's body."""
    try:
        told = parsing.OBJECT.decode(body)
    except (ValueError, RecursionError):
        told = {}
    if "error" not in told:
        message = "The upstream answered with an error that is not in OpenAI's shape."
        told = {"error": msgspec.Raw(msgspec.json.encode({"message": message, "type": "upstream_error", "code": None}))}
    name = b"event: error\n" if dialect == "anthropic" else b""
    return name + b"data: " + msgspec.json.format(msgspec.json.encode(told), indent=-1) + b"\n\n"


def _data(value: Mapping[str, Any], event: str = "") -> bytes:
    name = f"event: {event}\n".encode() if event else b""
    return name + b"data: " + msgspec.json.encode(value) + b"\n\n"


def _chat(answer: Members, include_usage: bool) -> Iterator[bytes]:
    head = {name: raw for name, raw in answer.items() if name not in {"object", "choices", "usage"}}
    head["object"] = msgspec.Raw(b'"chat.completion.chunk"')
    no_usage = {"usage": None} if include_usage else {}

    def chunk(choice: Members, delta: Mapping[str, Any], *, last: bool = False) -> bytes:
        finish = choice.get("finish_reason", parsing.NULL) if last else None
        told = choice.get("logprobs", parsing.NULL) if delta and not last and "role" not in delta else None
        part = {"index": choice["index"], "delta": delta, "logprobs": told, "finish_reason": finish}
        return _data({**head, "choices": [part], **no_usage})

    for choice in parsing.OBJECTS.decode(answer["choices"]):
        message = parsing.OBJECT.decode(choice["message"])
        role = message.pop("role", msgspec.Raw(b'"assistant"'))
        silent = bytes(message.get("content", parsing.NULL)) == b"null"  # it calls tools, refuses or speaks
        yield chunk(choice, {"role": role, "content": None if silent else ""})
        delta: dict[str, Any] = {name: raw for name, raw in message.items() if bytes(raw) != b"null"}
        if "tool_calls" in delta:
            calls = parsing.OBJECTS.decode(delta["tool_calls"])
            delta["tool_calls"] = [{"index": index, **call} for index, call in enumerate(calls)]
        if delta:
            yield chunk(choice, delta)
        yield chunk(choice, {}, last=True)
    if include_usage:
        yield _data({**head, "choices": [], "usage": answer.get("usage", parsing.NULL)})
    yield DONE


def _completion(answer: Members, include_usage: bool) -> Iterator[bytes]:
    head = {name: raw for name, raw in answer.items() if name not in {"choices", "usage"}}
    no_usage = {"usage": None} if include_usage else {}
    for choice in parsing.OBJECTS.decode(answer["choices"]):
        yield _data({**head, "choices": [choice], **no_usage})
    if include_usage:
        yield _data({**head, "choices": [], "usage": answer.get("usage", parsing.NULL)})
    yield DONE


def _response(answer: Members, _: bool) -> Iterator[bytes]:
    sequence = 0

    def event(type_: str, **fields: Any) -> bytes:
        nonlocal sequence
        data = {"type": type_, "sequence_number": sequence, **fields}
        sequence += 1
        return _data(data, type_)

    begun: dict[str, Any] = {**answer, "status": "in_progress", "output": [], "usage": None}
    yield event("response.created", response=begun)
    yield event("response.in_progress", response=begun)
    for index, item in enumerate(parsing.OBJECTS.decode(answer["output"])):
        opened: dict[str, Any] = {**item, "status": "in_progress"} if "status" in item else dict(item)
        for name, empty in (("content", []), ("summary", []), ("arguments", ""), ("input", "")):
            if name in opened and bytes(item[name]) != b"null":
                opened[name] = empty
        yield event("response.output_item.added", output_index=index, item=opened)
        yield from _item(event, index, item)
        yield event("response.output_item.done", output_index=index, item=item)
    status = msgspec.json.decode(answer.get("status", b'"completed"'))
    ending = f"response.{status}" if status in {"failed", "incomplete"} else "response.completed"
    yield event(ending, response=answer)


#: Content part type -> (its text's member, the events that tell of it).
PARTS: Final = {
    "output_text": ("text", "response.output_text"),
    "refusal": ("refusal", "response.refusal"),
    "reasoning_text": ("text", "response.reasoning_text"),
}


def _item(event: Callable[..., bytes], index: int, item: Members) -> Iterator[bytes]:
    """What happens between an output item's beginning and its end."""
    at: dict[str, Any] = {"item_id": item.get("id", msgspec.Raw(b'""')), "output_index": index}
    content = item.get("content", parsing.NULL)
    for number, part in enumerate(parsing.OBJECTS.decode(content) if bytes(content).startswith(b"[") else ()):
        where = {**at, "content_index": number}
        name, told = PARTS.get(msgspec.json.decode(part.get("type", b'""')), ("", ""))
        opened: dict[str, Any] = {**part, name: ""} if name else dict(part)
        listed = _lists(part)
        opened |= {key: [] for key in listed}
        yield event("response.content_part.added", **where, part=opened)
        if name:
            extra: dict[str, Any] = (
                {"logprobs": part.get("logprobs", [])} if name == "text" and told == "response.output_text" else {}
            )
            yield event(f"{told}.delta", **where, delta=part[name], **extra)
            for order, annotation in enumerate(listed.get("annotations", ())):
                yield event(f"{told}.annotation.added", **where, annotation_index=order, annotation=annotation)
            yield event(f"{told}.done", **where, **{name: part[name]}, **extra)
        yield event("response.content_part.done", **where, part=part)
    for number, part in enumerate(parsing.OBJECTS.decode(item["summary"]) if "summary" in item else ()):
        where = {**at, "summary_index": number}
        yield event("response.reasoning_summary_part.added", **where, part={**part, "text": ""})
        yield event("response.reasoning_summary_text.delta", **where, delta=part["text"])
        yield event("response.reasoning_summary_text.done", **where, text=part["text"])
        yield event("response.reasoning_summary_part.done", **where, part=part)
    type_ = msgspec.json.decode(item["type"])
    if type_ == "custom_tool_call":
        yield event("response.custom_tool_call_input.delta", **at, delta=item["input"])
        yield event("response.custom_tool_call_input.done", **at, input=item["input"])
    if type_ == "function_call":
        yield event("response.function_call_arguments.delta", **at, delta=item["arguments"])
        yield event("response.function_call_arguments.done", **at, name=item["name"], arguments=item["arguments"])


def _lists(part: Members) -> dict[str, list[Members]]:
    """What a text part begins without: its annotations and log probabilities."""
    return {
        name: parsing.OBJECTS.decode(part[name])
        for name in ("annotations", "logprobs")
        if name in part and bytes(part[name]).startswith(b"[")
    }


def _message(answer: Members, _: bool) -> Iterator[bytes]:
    return messages.events(answer)


def _generated(answer: Members, _: bool) -> Iterator[bytes]:
    yield _data(answer)


STREAMS: Final[Mapping[str, Callable[[Members, bool], Iterator[bytes]]]] = {
    "/v1/chat/completions": _chat,
    "/v1/completions": _completion,
    "/v1/responses": _response,
    "/v1/messages": _message,
    "generateContent": _generated,
}
