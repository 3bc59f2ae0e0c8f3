"""Every call of the OpenAI SDK that is not batched: the same directly and through the proxy.

Compared are the requests that reach the upstream (line, each header in order and spelling, body), the answers'
status and headers, and the objects that the SDK makes of them, field by field.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import openai
import pytest

from tests.relay.raw_upstream import Call, RawUpstream
from tests.relay.sdk import Recorder, Seen, answer, every_call
from tests.running import Stack

#: Some of the calls are deprecated, and relayed all the same.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

FILE = ("name.bin", bytes(range(256)) * 10)
CALLS: dict[str, Callable[[openai.OpenAI], Any]] = {
    "every page of a list": lambda c: [item.model_dump() for item in c.files.list(limit=1, extra_query={"x": "a b+c"})],
    "repeated query keys": lambda c: c.responses.retrieve("r", include=["message.input_image.image_url", "other"]),  # type: ignore[list-item]
    "a stream of a stored response": lambda c: c.responses.retrieve("r", stream=True),
    "a stream of images": lambda c: c.images.generate(prompt="p", stream=True),
    "a stream of a transcription": lambda c: c.audio.transcriptions.create(file=FILE, model="m", stream=True),
    "a stream of speech": lambda c: c.audio.speech.create(
        input="i", model="m", voice="v", stream_format="sse", extra_body={"stream": True}
    ),
    "a stream of a run": lambda c: c.beta.threads.runs.create("t", assistant_id="a", stream=True),
    "several images": lambda c: c.images.edit(image=[FILE, FILE], prompt="p", mask=FILE),
    "a chunked upload": lambda c: c.uploads.upload_file_chunked(
        file=b"x" * 3000, filename="f", bytes=3000, part_size=1000, mime_type="text/plain", purpose="batch"
    ),
    "headers and query of one's own": lambda c: c.models.list(
        extra_headers={"X-Own": "1", "x_own": "2", "OpenAI-Beta": "b"}, extra_query={"q": ["1", "2"], "z": "ä/%"}
    ),
    "an id with a slash and more": lambda c: c.models.retrieve("ft:gpt/ä b?c#d%2F"),
    "organization and project": lambda c: c.with_options(organization="o", project="p").models.list(),
    "background responses": lambda c: c.responses.create(model="m", input="i", background=True),
    "chat with a header that no line carries": lambda c: c.chat.completions.create(
        model="m", messages=[{"role": "user", "content": "é"}], extra_headers={"OpenAI-Beta": "x"}
    ),
    "chat with a query, streamed": lambda c: c.chat.completions.create(
        model="m", messages=[], stream=True, extra_query={"x": "1"}
    ),
    "a raw response": lambda c: c.files.with_raw_response.content("f").content,
    "a streamed download": lambda c: b"".join(download(c)),
}
ERRORS = {
    400: b'{"error": {"message": "no", "type": "invalid_request_error", "param": "x", "code": "c"}}',
    401: b'{"error": {"message": "who", "type": "invalid_request_error", "param": null, "code": "invalid_api_key"}}',
    404: b"<html>not JSON</html>",
    429: b'{"error": {"message": "slow", "type": "requests", "param": null, "code": "rate_limit_exceeded"}}',
    500: b"",
    503: b'{"error": null}',
}


def download(client: openai.OpenAI) -> list[bytes]:
    with client.files.with_streaming_response.content("f") as response:
        return list(response.iter_bytes())


def compare(front: Stack, raw: RawUpstream, calls: dict[str, Callable[[openai.OpenAI], Any]]) -> dict[str, Seen]:
    """Make the calls both ways; every difference fails."""
    direct, through = Recorder(raw.url, raw), Recorder(front.url, raw)
    seen: dict[str, Seen] = {}
    differences = {}
    with direct.client, through.client:
        for name, call in calls.items():
            seen[name], other = direct.see(call), through.see(call)
            if asdict(seen[name]) != asdict(other):
                differences[name] = (seen[name], other)
    assert differences == {}
    return seen


def test_every_method_of_the_sdk_is_the_same_directly_and_through_the_proxy(
    front: Stack, raw: RawUpstream, record_property: Callable[[str, object], None]
) -> None:
    raw.handler = answer
    seen = compare(front, raw, dict(every_call()))

    asked = {name for name, one in seen.items() if one.requests}
    record_property("methods", len(asked))
    record_property("headers", sum(len(headers) for one in seen.values() for _, headers, _ in one.requests))
    assert len(asked) > 300, sorted(set(seen) - asked)
    kinds = {name.split(".")[0] for name in asked}
    assert kinds >= {
        "models", "files", "uploads", "batches", "images", "audio", "vector_stores", "fine_tuning", "conversations",
        "responses", "videos", "containers", "evals", "realtime", "skills", "webhooks", "admin", "beta",
    }  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_calls_with_more_to_them_are_the_same(front: Stack, raw: RawUpstream, name: str) -> None:
    raw.handler = answer
    seen = compare(front, raw, {name: CALLS[name]})[name]

    assert seen.requests
    assert seen.answers[0][0] == 200


@pytest.mark.parametrize("status", ERRORS)
def test_errors_are_the_same(front: Stack, raw: RawUpstream, status: int) -> None:
    def handler(call: Call) -> None:
        call.read()
        body = ERRORS[status]
        call.send(
            b"HTTP/1.1 %d Odd\r\nContent-Type: application/json\r\nRetry-After: 3\r\nContent-Length: %d\r\n\r\n%b"
            % (status, len(body), body)
        )

    raw.handler = handler
    seen = compare(front, raw, {"models": lambda client: client.models.list()})["models"]

    assert seen.answers[0][0] == status
    assert seen.result[0].endswith("Error")
