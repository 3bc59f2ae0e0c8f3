"""What a reply says about itself: tokens by endpoint, the tier that was paid, a reason that quotes nobody."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks import usage
from tasks.models import Reply
from tasks.usage import Usage

CHAT = {
    "prompt_tokens": 100,
    "completion_tokens": 40,
    "prompt_tokens_details": {"cached_tokens": 60, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 25},
}
RESPONSES = {
    "input_tokens": 100,
    "output_tokens": 40,
    "input_tokens_details": {"cached_tokens": 60},
    "output_tokens_details": {"reasoning_tokens": 25},
}


def reply(body: Any, *, lane: str = "batch", status: int = 200) -> Reply:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Reply.of_upstream(status, {"x-batch-lane": lane}, data)


@pytest.mark.parametrize(
    ("said", "read"),
    [
        (CHAT, Usage(100, 60, 40, 25)),
        (RESPONSES, Usage(100, 60, 40, 25)),
        ({"prompt_tokens": 8, "total_tokens": 8}, Usage(8)),
        ({**CHAT, "prompt_tokens_details": None}, Usage(100, 0, 40, 25)),
        ({"prompt_tokens": 3, "prompt_tokens_details": {"cached_tokens": 9}}, Usage(3, 3)),
        ({"prompt_tokens": -5, "completion_tokens": "many"}, Usage()),
        ({"prompt_tokens": 10**400}, Usage()),
        ({}, Usage()),
        (None, None),
        ([], None),
    ],
)
def test_tokens_are_read_whatever_the_endpoint_calls_them(said: Any, read: Usage | None) -> None:
    assert usage.read(reply({"id": "x", "usage": said}))[0] == read


CLAUDE = {
    "input_tokens": 10, "cache_read_input_tokens": 60, "cache_creation_input_tokens": 30, "output_tokens": 40,
    "service_tier": "batch",
}  # fmt: skip


@pytest.mark.parametrize(
    ("said", "read"),
    [
        (CLAUDE, Usage(100, 60, 40, 0, "claude-x")),
        ({"input_tokens": 10, "output_tokens": 4}, Usage(10, 0, 4, 0, "claude-x")),
        ({**CLAUDE, "cache_read_input_tokens": None}, Usage(40, 0, 40, 0, "claude-x")),
        ({**CLAUDE, "cache_read_input_tokens": "many"}, Usage(40, 0, 40, 0, "claude-x")),
        ({**CLAUDE, "cache_read_input_tokens": -60}, Usage(40, 0, 40, 0, "claude-x")),
        ({**CLAUDE, "output_tokens": 2**70}, Usage(100, 60, 0, 0, "claude-x")),
        (None, None),
    ],
)
def test_a_messages_cache_is_part_of_its_input_and_it_says_who_answered(said: Any, read: Usage | None) -> None:
    assert usage.read(reply({"type": "message", "model": "claude-x", "usage": said})) == (read, "batch")


def test_the_name_of_who_answered_is_short_or_none() -> None:
    for model, named in (("x" * 1000, "x" * 100), (7, ""), (None, "")):
        found = usage.read(reply({"type": "message", "model": model, "usage": CLAUDE}))[0]
        assert found is not None
        assert found.model == named


@pytest.mark.parametrize(
    ("said", "read"),
    [
        (
            {
                "promptTokenCount": 90, "toolUsePromptTokenCount": 10, "cachedContentTokenCount": 60,
                "candidatesTokenCount": 15, "thoughtsTokenCount": 25, "totalTokenCount": 140,
            },
            Usage(100, 60, 40, 25),
        ),
        ({"promptTokenCount": 8}, Usage(8)),
        ({"promptTokenCount": "8", "candidatesTokenCount": -1}, Usage()),
        ([], None),
        (None, None),
    ],
)  # fmt: skip
def test_tokens_of_gemini_are_read_with_thoughts_as_output(said: Any, read: Usage | None) -> None:
    assert usage.read(reply({"candidates": [], "usageMetadata": said})) == (read, "batch")


@pytest.mark.parametrize(
    ("lane", "service_tier", "tier"),
    [
        ("batch", "default", "batch"),
        ("batch", "priority", "batch"),
        ("flex", "flex", "flex"),
        ("sync", "default", "standard"),
        ("sync", None, "standard"),
        ("sync", "flex", "flex"),
        ("sync", "priority", "priority"),
        ("elsewhere", "flex", ""),
    ],
)
def test_the_lane_and_then_the_service_tier_say_what_was_paid(lane: str, service_tier: str | None, tier: str) -> None:
    assert usage.read(reply({"usage": CHAT, "service_tier": service_tier}, lane=lane))[1] == tier


def test_an_error_has_no_usage_and_a_success_no_reason() -> None:
    assert usage.read(reply({"usage": CHAT}, status=400))[0] is None
    assert usage.reason(reply({"error": {"code": "x"}})) == ""


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        ({"code": "context_length_exceeded", "message": "You said: secret"}, "context_length_exceeded"),
        ({"code": None, "type": "invalid_request_error"}, "invalid_request_error"),
        ({"code": "a sentence that quotes a secret"}, "http_400"),
        ("secret", "http_400"),
        ({"type": "overloaded_error", "message": "secret"}, "overloaded_error"),
        ({"code": 400, "status": "INVALID_ARGUMENT", "message": "secret"}, "INVALID_ARGUMENT"),
    ],
)
def test_a_reason_is_a_code_and_never_a_sentence(error: Any, reason: str) -> None:
    assert usage.reason(reply({"error": error}, status=400)) == reason


@given(st.binary(max_size=200))
def test_no_body_is_too_strange(body: bytes) -> None:
    assert usage.read(reply(body))[1] == "batch"
    assert usage.reason(reply(body, status=500))


def test_deep_bodies_do_no_harm() -> None:
    assert usage.read(reply(b'{"usage":' + b"[" * 100_000 + b"]" * 100_000 + b"}")) == (None, "batch")


@pytest.mark.parametrize("said", [CHAT, RESPONSES])
def test_tokens_are_read_just_as_well_where_something_else_is_odd(said: dict[str, Any]) -> None:
    found = usage.read(reply({"usage": said, "service_tier": 7}, lane="sync"))

    assert found == (Usage(100, 60, 40, 25), "standard")


def test_an_odd_answer_names_its_tier_too() -> None:
    odd = {"usage": {"prompt_tokens": "3"}, "service_tier": "flex"}

    assert usage.read(reply(odd, lane="sync")) == (Usage(), "flex")


MOST = usage.MOST_TOKENS


@pytest.mark.parametrize("odd", [None, 7])
@pytest.mark.parametrize(
    ("said", "read"),
    [
        ({"prompt_tokens": 1, "completion_tokens": 1}, Usage(1, 0, 1)),
        ({"prompt_tokens": 5, "prompt_tokens_details": {"cached_tokens": 5}}, Usage(5, 5)),
        ({"completion_tokens": 5, "completion_tokens_details": {"reasoning_tokens": 5}}, Usage(0, 0, 5, 5)),
        ({"completion_tokens": 5, "completion_tokens_details": {"reasoning_tokens": 1}}, Usage(0, 0, 5, 1)),
        ({"prompt_tokens": 5, "prompt_tokens_details": {"cached_tokens": 1}}, Usage(5, 1)),
        ({"completion_tokens": 5, "completion_tokens_details": {"reasoning_tokens": 9}}, Usage(0, 0, 5, 5)),
        ({"prompt_tokens": MOST - 1, "completion_tokens": MOST - 1}, Usage(MOST - 1, 0, MOST - 1)),
        ({"prompt_tokens": MOST, "completion_tokens": 1}, Usage(0, 0, 1)),
        ({"prompt_tokens": 1, "completion_tokens": MOST}, Usage(1)),
    ],
)
def test_counts_are_believed_up_to_a_limit_however_they_are_read(said: Any, read: Usage, odd: object) -> None:
    """`odd` sends the answer the slow way, which must say the same."""
    assert usage.read(reply({"usage": said, "service_tier": odd}))[0] == read


@pytest.mark.parametrize(
    ("said", "read"),
    [
        ({"input_tokens": 1, "output_tokens": 0}, Usage(1, 0, 0, 0, "c")),
        ({"input_tokens": -1, "output_tokens": 4}, Usage(0, 0, 4, 0, "c")),
        ({"input_tokens": 1, "output_tokens": -4}, Usage(1, 0, 0, 0, "c")),
        ({"input_tokens": 1, "cache_creation_input_tokens": -4, "output_tokens": 1}, Usage(1, 0, 1, 0, "c")),
        ({"input_tokens": 1, "output_tokens": MOST - 1}, Usage(1, 0, MOST - 1, 0, "c")),
        ({"input_tokens": 1, "output_tokens": MOST}, Usage(1, 0, 0, 0, "c")),
    ],
)
def test_counts_of_a_message_are_believed_up_to_a_limit(said: Any, read: Usage) -> None:
    assert usage.read(reply({"type": "message", "model": "c", "usage": said}))[0] == read


def test_a_reply_of_no_lane_has_no_tier() -> None:
    assert usage.read(Reply.of_upstream(200, {}, json.dumps({"usage": CHAT}).encode())) == (Usage(100, 60, 40, 25), "")
