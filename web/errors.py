"""Errors become the OpenAI envelope: the only error handlers of the front."""

from __future__ import annotations

import logging

import msgspec
import redis
from flask import Flask, Response
from werkzeug.exceptions import HTTPException

from tasks import store
from tasks.errors import ClientError, ClientGone, ClientTooHasty, DeadlineExceeded, LimitReached, Unavailable
from web import shapes

logger = logging.getLogger(__name__)

#: No SDK should wait so long by itself.
LONG_SECONDS = 60.0


def envelope(status: int, message: str, *, type_: str, code: str | None, param: str | None = None) -> Response:
    """`{"error": {message, type, param, code}}`."""
    body = msgspec.json.encode({"error": {"message": message, "type": type_, "param": param, "code": code}})
    return Response(body, status=status, content_type="application/json")


def register(app: Flask) -> None:
    """Register the handlers."""
    app.register_error_handler(Exception, lambda error: shapes.shape(to_response(error), shapes.provider().dialect))


def to_response(error: Exception) -> Response:
    """What the caller sees of an error."""
    match error:
        case ClientError():
            return _client_error(error)
        case Unavailable():
            return _unavailable(error)
        case redis.RedisError():
            return _unavailable(store.unavailable(error))
        case DeadlineExceeded():
            return _deadline(error)
        case ClientGone():
            return Response(status=499)  # nobody reads it
        case HTTPException():
            return _http(error)
    return _defect(error)


def _client_error(error: ClientError) -> Response:
    response = envelope(error.status, str(error), type_=error.type, code=error.code, param=error.param)
    if isinstance(error, ClientTooHasty):
        response.headers["x-should-retry"] = "false"
    if isinstance(error, LimitReached):
        response.headers["Retry-After"] = f"{error.retry_after_seconds:.0f}"
        if error.retry_after_seconds > LONG_SECONDS:
            response.headers["x-should-retry"] = "false"
    return response


def _unavailable(error: Unavailable) -> Response:
    response = envelope(503, str(error), type_="server_error", code=error.code)
    response.headers["Retry-After"] = f"{error.retry_after_seconds:.0f}"
    return response


def _deadline(error: DeadlineExceeded) -> Response:
    response = envelope(504, str(error), type_="server_error", code="batch_deadline")
    response.headers["x-should-retry"] = "false"
    return response


def _http(error: HTTPException) -> Response:
    status = error.code or 500
    return envelope(status, error.description or error.name, type_="invalid_request_error", code=None)


def _defect(error: Exception) -> Response:
    # The traceback names code, never data: bodies and keys are not in the messages of our errors.
    logger.error("a request failed by a defect of the proxy", exc_info=error)
    return envelope(500, "The proxy failed; see its log.", type_="server_error", code="internal_error")
