"""What of headers and query a batch carries, and what sends a call another way."""

from __future__ import annotations

import pytest
from werkzeug.datastructures import Headers, MultiDict

from tasks.providers import catalogue, envelopes
from tasks.settings import Settings
from web import carrying

BETA = '{"headers":{"anthropic-beta":"b"},"query":{"beta":"true"},"root":""}'
KNOWN = catalogue.build(Settings())


@pytest.mark.parametrize(
    ("provider", "headers", "query", "carried"),
    [
        ("openai", {"OpenAI-Organization": "o", "X-Other": "1"}, {}, ""),
        ("openai", {"OpenAI-Beta": "assistants=v2"}, {}, None),
        ("openai", {}, {"a": "b"}, None),
        ("azure-classic", {}, {"api-version": "1"}, '{"headers":{},"query":{"api-version":"1"},"root":""}'),
        ("anthropic", {"Anthropic-Beta": "b"}, {"beta": "true"}, BETA),
        ("anthropic", {"anthropic-unheard-of": "b"}, {}, None),
        ("gemini", {"x-goog-api-client": "sdk", "x-goog-api-key": "k"}, {"alt": "sse"}, ""),
        ("gemini", {}, {"alt": "sse", "key": "k"}, ""),
        ("gemini", {"x-goog-api-key": "k"}, {"key": "k"}, None),
        ("gemini", {"x-goog-user-project": "p"}, {}, None),
    ],
)  # fmt: skip
def test_a_batch_carries_what_its_provider_says(
    provider: str, headers: dict[str, str], query: dict[str, str], carried: str | None
) -> None:
    extra = carrying.carried(KNOWN[provider], Headers(headers), MultiDict(query))

    assert (extra and extra.encode()) == carried or (carried == "" and extra and not extra.encode())


@pytest.mark.parametrize(
    ("dialect", "told"),
    [
        ("openai", b'{"error":{"message":"no","type":"t","param":"p","code":null}}'),
        ("anthropic", b'{"type":"error","error":{"type":"invalid_request_error","message":"no"}}'),
        ("gemini", b'{"error":{"code":400,"message":"no","status":"INVALID_ARGUMENT"}}'),
    ],
)
def test_an_error_of_ours_has_the_dialects_shape_and_anothers_stays_as_it_is(dialect: str, told: bytes) -> None:
    ours = b'{"error":{"message":"no","type":"t","param":"p","code":null}}'

    assert envelopes.shaped(dialect, 400, ours) == told
    assert envelopes.shaped(dialect, 400, told) == told
    assert envelopes.shaped(dialect, 502, b"<html>") == b"<html>"
