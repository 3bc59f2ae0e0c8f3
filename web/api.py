"""The batched endpoints: parse, accept, wait, reply."""

from __future__ import annotations

import time

from flask import Blueprint, Response, current_app, request

from tasks import vault
from tasks.errors import InvalidRequest
from tasks.models import Group, Lane, Request
from tasks.settings import Settings
from web import auth, parsing, relay, replies
from web.waiting import Front

bp = Blueprint("api", __name__)

#: `OpenAI-` headers that a group carries; a line cannot carry any other.
CARRIED_HEADERS = frozenset({"openai-organization", "openai-project"})
LANES = {"batch": Lane.BATCH, "sync": Lane.SYNC}


def batched() -> Response:
    """Answer one request through a batch, or through the lane that it asks for."""
    started = time.monotonic()
    credential = auth.credential(request.headers)
    if request.query_string or not _can_be_carried():
        return relay.relay()
    lane = _lane()
    parsed = parsing.parse(request.path, _body())
    if parsed.background:
        return relay.relay()
    accepted = Request(
        group=Group(
            credential=vault.reference(credential),
            endpoint=request.path,
            model=parsed.model,
            organization=request.headers.get("OpenAI-Organization", ""),
            project=request.headers.get("OpenAI-Project", ""),
        ),
        body=parsed.line,
        fingerprint=parsed.fingerprint,
        inputs=parsed.inputs,
        lane=lane,
        idempotency_key=request.headers.get("Idempotency-Key", ""),
    )
    front: Front = current_app.extensions["front"]
    task_id, reply = front.hold(accepted, credential)
    waited_ms = int((time.monotonic() - started) * 1000)
    if parsed.stream:
        reply = replies.streamed(reply, request.path, include_usage=parsed.include_usage)
    return replies.to_response(reply, task_id=task_id, waited_ms=waited_ms)


for endpoint in parsing.ENDPOINTS:
    bp.add_url_rule(endpoint, endpoint.replace("/", "_"), batched, methods=["POST"])


def _body() -> bytes:
    config: Settings = current_app.extensions["settings"]
    request.max_content_length = config.max_body_mb * 1_000_000
    return request.get_data(cache=True)


def _can_be_carried() -> bool:
    return all(name.lower() in CARRIED_HEADERS for name in request.headers.keys() if name.lower().startswith("openai-"))


def _lane() -> Lane:
    mode = request.headers.get("X-Batch-Mode", "batch")
    if mode not in LANES:
        raise InvalidRequest(f"X-Batch-Mode must be one of {', '.join(LANES)}.", param="X-Batch-Mode")
    return LANES[mode]
