"""One line for each request that was answered: what it was, how it went, and by which ids it can be followed.

The caller's `x-request-id` and the trace of its `traceparent` stand beside our id, so that a caller's log leads to
the batch. Never a body, a query string or a header that could hold a key.
"""

from __future__ import annotations

import logging
import re
import time
from typing import Any, Final

from flask import Flask, Response, g, request

logger = logging.getLogger("llm_proxy.access")

#: Asked so often by machines that their lines would bury the others.
QUIET: Final = ("/healthz", "/readyz", "/metrics", "/dashboard")
_TRACE: Final = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
_WORD: Final = re.compile(r"[\x21-\x7e]{1,128}")


def register(app: Flask) -> None:
    """Log what the app answers."""
    app.before_request(_begin)
    app.after_request(_end)


def _begin() -> None:
    g.began = time.monotonic()


def _end(response: Response) -> Response:
    level = logging.DEBUG if request.path.startswith(QUIET) else logging.INFO
    if logger.isEnabledFor(level):
        task_id = response.headers.get("x-batch-task-id", "")
        logger.log(level, "%sanswered", f"{task_id} " if task_id else "", extra={"fields": _fields(response)})
    return response


def _fields(response: Response) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "method": request.method[:20],
        "path": request.path[:200],
        "status": response.status_code,
        "ms": int((time.monotonic() - g.get("began", time.monotonic())) * 1000),
        "lane": response.headers.get("x-batch-lane"),
        "batch": response.headers.get("x-batch-id"),
        **callers(),
    }
    return {name: value for name, value in fields.items() if value is not None}


def callers() -> dict[str, str]:
    """The ids that the caller gave its request, if they are such."""
    found: dict[str, str] = {}
    given = request.headers.get("x-request-id", "")
    if _WORD.fullmatch(given):
        found["request_id"] = given
    trace = _TRACE.fullmatch(request.headers.get("traceparent", ""))
    if trace:
        found["trace"] = trace[1]
    return found
