"""Calls every method of the OpenAI SDK with made-up arguments, and says what went out and what came back."""

from __future__ import annotations

import hashlib
import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import openai
from openai import BaseModel
from openai._streaming import Stream

from tests.relay.raw_upstream import Call, RawUpstream
from tests.relay.wire import Headers

KEY = "sk-every-call"
#: Batched, not relayed.
BATCHED = {
    "chat.completions.create", "chat.completions.parse", "beta.chat.completions.create", "beta.chat.completions.parse",
    "embeddings.create", "responses.create", "responses.parse", "completions.create", "moderations.create",
}  # fmt: skip
#: Helpers that wait, open a WebSocket, read local files or ask nobody.
NO_CALLS = re.compile(r"poll|connect|stream|chunked|wait_for|unwrap|verify_signature|prepare|for_result|\.upload$")
FILES = ("file", "image", "video", "data", "recording", "audio", "files", "mask", "files[]")
NUMBERS = {"bytes", "status_code", "start_time", "threshold_amount"}
LISTS = {
    "part_ids", "items", "tool_outputs", "testing_criteria", "event_types", "questions", "events", "project_ids",
    "permissions", "model_ids", "certificate_ids", "attribute_matchers",
}  # fmt: skip
OBJECTS = {
    "metadata", "attributes", "data_source", "data_source_config", "session", "grader", "transport", "environment",
    "notification_channel", "workflow", "target", "auth",
}  # fmt: skip
BODY = (
    b'{"id": "obj_1", "object": "list", "created_at": 1700000000, "big": 12345678901234567890, "float": 1.10,\n'
    b' "data": [{"id": "item_1", "object": "thing", "text": "\\u00e9 \xc3\xa9", "nest": {"b": 1, "a": [null]}}],'
    b' "first_id": "item_1", "last_id": "item_1", "has_more": false, "status": "completed", "unknown": {"x": [1.0]}}'
)
EVENTS = b"".join(b'event: thing.%d\ndata: {"type": "thing.%d", "n": %d}\n\n' % (n, n, n) for n in range(5))
EVENTS += b"data: [DONE]\n\n"


def answer(call: Call) -> None:
    """A JSON object for everybody, events for who asks for them; headers that depend on the request alone."""
    body = call.read()
    name = hashlib.sha256(call.head.line).hexdigest()[:12].encode()
    common = b"x-request-id: req_%b\r\nSet-Cookie: one=%b\r\nset-cookie: two=2; Path=/v1\r\n" % (name, name)
    if b'"stream":true' in body or b"stream=true" in call.head.line or b'name="stream"' in body:
        chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in EVENTS.splitlines(keepends=True))
        call.send(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n%bTransfer-Encoding: chunked\r\n\r\n%b0\r\n\r\n"
            % (common, chunks)
        )
    else:
        call.send(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n%bContent-Length: %d\r\n\r\n%b"
            % (common, len(BODY), BODY)
        )


@dataclass
class Seen:
    """One call: the requests that arrived and what the caller got."""

    requests: list[tuple[bytes, Headers, bytes]]
    answers: list[tuple[int, list[tuple[bytes, bytes]]]]
    result: Any


class Recorder:
    """An SDK client, direct or through the proxy."""

    def __init__(self, base_url: str, raw: RawUpstream) -> None:
        self.raw = raw
        self.answers: list[tuple[int, list[tuple[bytes, bytes]]]] = []
        self.client = openai.OpenAI(
            base_url=f"{base_url}/v1",
            api_key=KEY,
            admin_api_key=KEY,
            max_retries=0,
            http_client=openai.DefaultHttpxClient(event_hooks={"response": [self._note]}),
        )

    def _note(self, response: Any) -> None:
        self.answers.append((response.status_code, without_framing(response.headers.raw)))

    def see(self, call: Callable[[openai.OpenAI], Any]) -> Seen:
        """Make a call."""
        self.raw.calls.clear()
        self.answers.clear()
        try:
            result = plain(call(self.client))
        except (openai.OpenAIError, TypeError, ValueError, AttributeError, KeyError) as error:
            result = (type(error).__name__, str(error).replace(KEY, ""))
        return Seen([request(call) for call in self.raw.calls], list(self.answers), result)


def without_framing(headers: Headers) -> Headers:
    """Without what is each connection's own."""
    return [(name, value) for name, value in headers if name.lower() not in {b"connection", b"transfer-encoding"}]


def request(call: Call) -> tuple[bytes, Headers, bytes]:
    """What arrived, with the random boundary of a form made equal, and without host and connection."""
    headers, body = [(n, v) for n, v in without_framing(call.head.headers) if n.lower() != b"host"], call.body
    for _, value in headers:
        if found := re.search(rb"boundary=(\S+)", value):
            body = body.replace(found[1], b"BOUNDARY")
            headers = [(n, v.replace(found[1], b"BOUNDARY")) for n, v in headers]
    return call.head.line, headers, body


def plain(result: Any) -> Any:
    """Every field of a result, unknown ones too."""
    if isinstance(result, Stream):
        return [plain(event) for event in result]
    if isinstance(result, BaseModel):
        return (type(result).__name__, result.model_dump(warnings=False), getattr(result, "_request_id", None))
    if hasattr(result, "read"):
        return result.read()
    return result


def argument(name: str) -> Any:
    """Something that the SDK sends on."""
    if name in FILES:
        file = ("name.bin", bytes(range(256)) * 10, "application/octet-stream")
        return [file] if name.startswith("files") else file
    if name in NUMBERS:
        return 5
    if name in LISTS:
        return [{"type": "made up", "a": "é"}] if name not in {"part_ids", "event_types", "project_ids"} else ["a", "b"]
    if name in OBJECTS:
        return {"type": "made up", "b": 1, "a": 1.5}
    return f"made-up_{name}"


def every_call() -> Iterator[tuple[str, Callable[[openai.OpenAI], Any]]]:
    """All methods of all resources that make one HTTP call which is not batched."""
    with openai.OpenAI(api_key=KEY, admin_api_key=KEY) as client:
        names = list(_methods(client, ""))
    for name, required in names:
        if name not in BATCHED and not NO_CALLS.search(name):
            arguments = {parameter: argument(parameter) for parameter in required}
            yield name, _call(name, arguments)


def _call(name: str, arguments: dict[str, Any]) -> Callable[[openai.OpenAI], Any]:
    def call(client: openai.OpenAI) -> Any:
        method: Any = client
        for part in name.split("."):
            method = getattr(method, part)
        return method(**arguments)

    return call


def _methods(resource: Any, path: str) -> Iterator[tuple[str, list[str]]]:
    for name in sorted(name for name in dir(resource) if not name.startswith(("_", "with_"))):
        try:
            found = getattr(resource, name)
        except AttributeError:
            continue
        if type(found).__module__.startswith("openai.resources"):
            yield from _methods(found, f"{path}{name}.")
        elif path and inspect.ismethod(found):
            parameters = inspect.signature(found).parameters.values()
            yield f"{path}{name}", [p.name for p in parameters if p.default is inspect.Parameter.empty]
