"""What a reply says about itself: tokens, the tier that was paid for, the reason of a failure. Pure.

Only the members that are asked for are decoded: a large body costs one scan. Nothing of what people wrote is
read: a reason is a code, never a message, because the upstream's messages quote prompts.
"""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from tasks.models import Lane, Outcome, Reply

#: A row of the ledger by the lane that carried the request; `service_tier` refines the synchronous one.
TIERS: Final[dict[str, str]] = {Lane.BATCH: "batch", Lane.FLEX: "flex", Lane.SYNC: "standard"}
SERVICE_TIERS: Final = {"flex": "flex", "priority": "priority"}
#: A count beyond this is nonsense, and Redis' scripts count exactly up to it.
MOST_TOKENS: Final = 2**48
#: What Anthropic's answers say of themselves.
MESSAGE: Final = "message"
MODEL_LENGTH: Final = 100
_CODE = re.compile(r"[A-Za-z0-9_.\-]{1,60}")


class Usage(msgspec.Struct, frozen=True):
    """Tokens of one answer; `cached` is part of `input`, `reasoning` part of `output`.

    Attributes:
        model: who answered, where a batch may hold several models and so its group names none.
    """

    input: int = 0
    cached: int = 0
    output: int = 0
    reasoning: int = 0
    model: str = ""


class _Details(msgspec.Struct, gc=False):
    cached_tokens: int = 0
    reasoning_tokens: int = 0


class _Counts(msgspec.Struct, gc=False):
    prompt_tokens: int = 0
    input_tokens: int = 0
    completion_tokens: int = 0
    output_tokens: int = 0
    prompt_tokens_details: _Details | None = None
    input_tokens_details: _Details | None = None
    completion_tokens_details: _Details | None = None
    output_tokens_details: _Details | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None


class _Answer(msgspec.Struct, gc=False):
    """As the upstream documents it: read for every line, in a third of the time that anything else takes."""

    usage: _Counts
    service_tier: str | None = None
    type: str | None = None
    model: str | None = None


class _AnyAnswer(msgspec.Struct):
    usage: Any = None
    service_tier: Any = None
    type: Any = None
    model: Any = None
    usage_metadata: Any = msgspec.field(default=None, name="usageMetadata")


class _Failure(msgspec.Struct):
    error: Any = None


_answer = msgspec.json.Decoder(_Answer)
_any_answer = msgspec.json.Decoder(_AnyAnswer)
_failure = msgspec.json.Decoder(_Failure)


def read(reply: Reply) -> tuple[Usage | None, str]:
    """Tokens of a reply, None when it names none, and the tier at which they are priced."""
    tier = TIERS.get(reply.headers.get("x-batch-lane", ""), "")
    if reply.outcome is not Outcome.SUCCESSFUL:
        return None, tier
    try:
        answer = _answer.decode(reply.body)
    except (ValueError, RecursionError):
        return _read_anything(reply.body, tier)
    found = _message(answer.usage, answer.model) if answer.type == MESSAGE else _documented(answer.usage)
    if found is None:
        return _read_anything(reply.body, tier)
    return found, _refined(tier, answer.service_tier)


def _documented(usage: _Counts) -> Usage | None:
    """Chat completions and embeddings say prompt and completion, responses say input and output."""
    asked = usage.prompt_tokens or usage.input_tokens
    answered = usage.completion_tokens or usage.output_tokens
    details = usage.prompt_tokens_details or usage.input_tokens_details
    cached = details.cached_tokens if details else 0
    details = usage.completion_tokens_details or usage.output_tokens_details
    reasoning = details.reasoning_tokens if details else 0
    if 0 <= cached <= asked < MOST_TOKENS and 0 <= reasoning <= answered < MOST_TOKENS:
        return Usage(asked, cached, answered, reasoning)
    return None


def _message(usage: _Counts, model: str | None) -> Usage | None:
    """Anthropic counts what it read from its cache, and what it wrote there, beside the input."""
    read, written = usage.cache_read_input_tokens or 0, usage.cache_creation_input_tokens or 0
    asked = usage.input_tokens + read + written
    if (
        min(usage.input_tokens, read, written, usage.output_tokens) < 0
        or max(asked, usage.output_tokens) >= MOST_TOKENS
    ):
        return None
    return Usage(asked, read, usage.output_tokens, 0, _named(model))


def _named(model: object) -> str:
    return model[:MODEL_LENGTH] if isinstance(model, str) else ""


def _refined(tier: str, service_tier: Any) -> str:
    if tier == "standard" and isinstance(service_tier, str):
        return SERVICE_TIERS.get(service_tier, tier)
    return tier


def _read_anything(body: bytes, tier: str) -> tuple[Usage | None, str]:
    """Of whatever shape: what is no count counts nothing."""
    try:
        answer = _any_answer.decode(body)
    except (ValueError, RecursionError):
        return None, tier
    found = None
    if isinstance(answer.usage, dict):
        found = _odd_message(answer.usage, answer.model) if answer.type == MESSAGE else _usage(answer.usage)
    elif isinstance(answer.usage_metadata, dict):
        found = _generated(answer.usage_metadata)
    return found, _refined(tier, answer.service_tier)


def _usage(usage: dict[str, Any]) -> Usage:
    asked = _count(usage, "prompt_tokens") or _count(usage, "input_tokens")
    answered = _count(usage, "completion_tokens") or _count(usage, "output_tokens")
    cached = _detail(usage, "cached_tokens", "prompt_tokens_details", "input_tokens_details")
    reasoning = _detail(usage, "reasoning_tokens", "completion_tokens_details", "output_tokens_details")
    return Usage(asked, min(cached, asked), answered, min(reasoning, answered))


def _odd_message(usage: dict[str, Any], model: object) -> Usage:
    read = _count(usage, "cache_read_input_tokens")
    asked = _count(usage, "input_tokens") + read + _count(usage, "cache_creation_input_tokens")
    return Usage(asked, read, _count(usage, "output_tokens"), 0, _named(model))


def _generated(usage: dict[str, Any]) -> Usage:
    """Gemini counts what is cached in the prompt, and thoughts and what tools brought beside everything else."""
    asked = _count(usage, "promptTokenCount") + _count(usage, "toolUsePromptTokenCount")
    thoughts = _count(usage, "thoughtsTokenCount")
    answered = _count(usage, "candidatesTokenCount") + thoughts
    return Usage(asked, min(_count(usage, "cachedContentTokenCount"), asked), answered, thoughts)


def _detail(usage: dict[str, Any], name: str, *parents: str) -> int:
    for parent in parents:
        details = usage.get(parent)
        if isinstance(details, dict):
            return _count(details, name)
    return 0


def _count(mapping: dict[str, Any], name: str) -> int:
    value = mapping.get(name)
    return value if type(value) is int and 0 < value < MOST_TOKENS else 0


def reason(reply: Reply) -> str:
    """Why a reply is not a success, as a word: the error's code, type or status, else HTTP's; empty for a success."""
    if reply.outcome is Outcome.SUCCESSFUL:
        return ""
    try:
        error = _failure.decode(reply.body).error
    except (ValueError, RecursionError):
        error = None
    for name in ("code", "type", "status"):  # Google's code is the number of the status
        word = error.get(name) if isinstance(error, dict) else None
        if isinstance(word, str) and _CODE.fullmatch(word):
            return word
    return f"http_{reply.status}"
