"""Errors of our own in the shape that a dialect's SDK reads. Pure.

The pipeline and the front write them in OpenAI's envelope; what an upstream wrote is left as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

OURS: Final = frozenset({"message", "type", "param", "code"})
ANTHROPIC_TYPES: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}
GOOGLE_STATUSES: Final = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ABORTED",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


def shaped(dialect: str, status: int, body: bytes) -> bytes:
    """An error's body as the dialect writes errors; one that is not in our envelope stays as it is."""
    write = WRITERS.get(dialect)
    error = _ours(body) if write else None
    return msgspec.json.encode(write(status, error)) if write and error else body


def _ours(body: bytes) -> dict[str, Any] | None:
    try:
        told = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        return None
    error = told.get("error") if isinstance(told, dict) and len(told) == 1 else None
    return error if isinstance(error, dict) and error.keys() == OURS else None


def _anthropic(status: int, error: dict[str, Any]) -> dict[str, Any]:
    return {"type": "error", "error": {"type": anthropic_type(status), "message": error["message"]}}


def anthropic_type(status: int) -> str:
    """Anthropic's name for an error with this status."""
    return ANTHROPIC_TYPES.get(status, "api_error" if status >= 500 else "invalid_request_error")


def _google(status: int, error: dict[str, Any]) -> dict[str, Any]:
    return {"error": {"code": status, "message": error["message"], "status": google_status(status)}}


def google_status(status: int) -> str:
    """Google's name for an error with this status."""
    return GOOGLE_STATUSES.get(status, "INTERNAL" if status >= 500 else "FAILED_PRECONDITION")


WRITERS: Final[dict[str, Callable[[int, dict[str, Any]], dict[str, Any]]]] = {
    "anthropic": _anthropic,
    "gemini": _google,
}
