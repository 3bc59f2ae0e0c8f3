"""A stored reply becomes the HTTP response of the caller who waited for it."""

from __future__ import annotations

from dataclasses import replace

from flask import Response

from tasks.models import Reply
from web import sse


def streamed(reply: Reply, endpoint: str, *, include_usage: bool) -> Reply:
    """A successful reply as the events that a `stream: true` caller reads; errors keep their status."""
    if not 200 <= reply.status < 300 or endpoint not in sse.STREAMS:
        return reply
    try:
        reply.body.decode()  # what is no text is no event either
        body = b"".join(sse.events(endpoint, reply.body, include_usage=include_usage))
    except (LookupError, ValueError, TypeError, AttributeError, RecursionError):
        return reply  # an answer of an unknown shape was paid, too: it is handed over as it is
    return replace(reply, body=body, headers={**reply.headers, "content-type": "text/event-stream; charset=utf-8"})


def to_response(reply: Reply, *, task_id: str, lane: str, waited_ms: int) -> Response:
    """Status, headers and body as the upstream gave them, and ours beside them."""
    response = Response(reply.body, status=reply.status)
    response.headers.pop("Content-Type", None)
    for name, value in reply.headers.items():
        response.headers[name] = value
    response.headers.setdefault("content-type", "application/json")
    response.headers.setdefault("x-batch-lane", lane)
    response.headers["x-batch-task-id"] = task_id
    response.headers["x-batch-wait-ms"] = str(waited_ms)
    return response
