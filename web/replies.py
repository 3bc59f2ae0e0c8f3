"""A stored reply becomes the HTTP response of the caller who waited for it."""

from __future__ import annotations

from flask import Response

from tasks.models import Reply


def to_response(reply: Reply, *, task_id: str, waited_ms: int) -> Response:
    """Status, headers and body as the upstream gave them, and ours beside them."""
    response = Response(reply.body, status=reply.status)
    response.headers.pop("Content-Type", None)
    for name, value in reply.headers.items():
        response.headers[name] = value
    response.headers.setdefault("content-type", "application/json")
    response.headers["x-batch-task-id"] = task_id
    response.headers["x-batch-wait-ms"] = str(waited_ms)
    return response
