"""What a request asks: its text or inputs, what it lacks, and the in-band controls it carries in `model` or `user`."""

from __future__ import annotations

import json
from typing import Any

from tests.simulator.errors import Envelope, envelope

CHAT = "/v1/chat/completions"
EMBEDDINGS = "/v1/embeddings"
RESPONSES = "/v1/responses"
COMPLETIONS = "/v1/completions"
MODERATIONS = "/v1/moderations"

#: endpoint -> the parameter that carries the question
QUESTION = {CHAT: "messages", EMBEDDINGS: "input", RESPONSES: "input", COMPLETIONS: "prompt", MODERATIONS: "input"}

Body = dict[str, Any]

#: control -> (status, body) of the line that carries it
FAILURES: dict[str, tuple[int, Envelope]] = {
    "fail-400": (
        400,
        envelope("Simulated invalid request.", "invalid_request_error", "messages", "context_length_exceeded"),
    ),
    "fail-429": (429, envelope("Simulated rate limit.", "tokens", None, "rate_limit_exceeded")),
    "fail-500": (
        500,
        envelope("The server had an error while processing your request. Sorry about that!", "server_error"),
    ),
}


def carries(body: Body, control: str) -> bool:
    """Is this in-band control given, as model or as user?"""
    return control in (body.get("model"), body.get("user"))


def model_of(endpoint: str, body: Body) -> str:
    """The model asked for, or an empty string."""
    model = body.get("model")
    if isinstance(model, str) and model:
        return model
    return "omni-moderation-latest" if endpoint == MODERATIONS else ""


def missing(endpoint: str, body: Body) -> str | None:
    """The name of a required parameter that is not there."""
    if not model_of(endpoint, body):
        return "model"
    name = QUESTION[endpoint]
    if name not in body or (endpoint == CHAT and not isinstance(body[name], list)):
        return name
    return name if endpoint in (EMBEDDINGS, MODERATIONS) and body[name] == [] else None


def failure(endpoint: str, body: Body, *, batched: bool) -> tuple[int, Envelope] | None:
    """The status and body that this request gets instead of an answer."""
    if name := missing(endpoint, body):
        message = f"Missing required parameter: '{name}'."
        return 400, envelope(message, "invalid_request_error", name, "missing_required_parameter")
    for control, outcome in FAILURES.items():
        if carries(body, control):
            return outcome
    if batched and body.get("stream") is True:
        message = "Streaming is not supported in the Batch API."
        return 400, envelope(message, "invalid_request_error", "stream", "unsupported_value")
    return None


def text_of(endpoint: str, body: Body) -> str:
    """The text that a chat, response or completion answers: that of the last message."""
    question = body[QUESTION[endpoint]]
    if endpoint == COMPLETIONS or not isinstance(question, list):
        return canonical(question)
    if not question:
        return ""
    last = question[-1]
    if not isinstance(last, dict):
        return canonical(last)
    return canonical(last["content"]) if "content" in last else ""


def inputs_of(body: Body) -> list[str]:
    """The inputs of an embedding or moderation; a list of tokens is one input."""
    question = body["input"]
    if not isinstance(question, list) or any(type(item) in (int, float) for item in question):
        return [canonical(question)]
    return [canonical(item) for item in question]


def canonical(value: object) -> str:
    """A string is itself; anything else is its JSON with sorted keys and no spaces (as the Go rig has it)."""
    if isinstance(value, str):
        return value
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return text.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def utf8(text: str) -> bytes:
    """UTF-8, with a lone surrogate (legal in JSON) replaced."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").encode()
