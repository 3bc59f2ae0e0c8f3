"""Refusals in OpenAI's envelope: `{"error": {message, type, param, code}}`."""

from __future__ import annotations

from collections.abc import Mapping

Envelope = dict[str, dict[str, str | None]]


def envelope(message: str, kind: str, param: str | None = None, code: str | None = None) -> Envelope:
    """The body of every error answer."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


class ApiError(Exception):
    """Raised anywhere in a request; the app turns it into the answer."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.body = envelope(message, kind, param, code)
        self.headers = dict(headers or {})
