"""The batched endpoints: parse, accept, wait, reply."""

from __future__ import annotations

import logging
import re
import time

from flask import Blueprint, Response, current_app, request

from tasks import flex, vault
from tasks.errors import BodyTooLarge, InvalidRequest
from tasks.models import Group, Lane, Request
from tasks.settings import Settings
from web import access_log, auth, parsing, relay, replies
from web.waiting import Front

logger = logging.getLogger(__name__)

bp = Blueprint("api", __name__)

#: `OpenAI-` headers that a group carries; a line cannot carry any other.
CARRIED_HEADERS = frozenset({"openai-organization", "openai-project"})


def batched() -> Response:
    """Answer one request through a batch, or through the lane that it asks for."""
    started = time.monotonic()
    credential = auth.credential(request.headers)
    if request.query_string or not _can_be_carried():
        return relay.relay()
    lane, max_wait = _lane(), _max_wait()
    body = _body()
    parsed = parsing.parse(request.path, body)
    if parsed.background:
        return relay.relay(body=body)
    accepted = Request(
        group=Group(
            credential=vault.reference(credential),
            endpoint=request.path,
            model=parsed.model,
            organization=request.headers.get("OpenAI-Organization", ""),
            project=request.headers.get("OpenAI-Project", ""),
            max_wait_seconds=max_wait,
        ),
        body=parsed.line,
        fingerprint=parsed.fingerprint,
        inputs=parsed.inputs,
        lane=lane,
        idempotency_key=request.headers.get("Idempotency-Key", ""),
    )
    front: Front = current_app.extensions["front"]
    logger.info("%s comes", accepted.id, extra={"fields": {"group": accepted.group.id, **access_log.callers()}})
    task_id, reply = front.hold(accepted, credential)
    waited_ms = int((time.monotonic() - started) * 1000)
    if parsed.stream:
        reply = replies.streamed(reply, request.path, include_usage=parsed.include_usage)
    return replies.to_response(reply, task_id=task_id, waited_ms=waited_ms)


for endpoint in parsing.ENDPOINTS:
    bp.add_url_rule(endpoint, endpoint.replace("/", "_"), batched, methods=["POST"], provide_automatic_options=False)


def _body() -> bytes:
    """The whole body, read to one byte past the limit at most.

    Raises:
        BodyTooLarge: it is longer.
    """
    config: Settings = current_app.extensions["settings"]
    limit = config.max_body_mb * 1_000_000
    body: bytes = b""
    if (request.content_length or 0) <= limit:
        body = request.environ["wsgi.input"].read(limit + 1)
    if (request.content_length or len(body)) > limit or len(body) > limit:
        raise BodyTooLarge(f"The body is larger than {config.max_body_mb} MB, which LLM_PROXY_MAX_BODY_MB allows.")
    return body


def _can_be_carried() -> bool:
    return all(name.lower() in CARRIED_HEADERS for name in request.headers.keys() if name.lower().startswith("openai-"))


def _lane() -> Lane:
    """What `X-Batch-Mode` asks for.

    Raises:
        InvalidRequest: there is no such lane, or not for this endpoint.
    """
    mode = request.headers.get("X-Batch-Mode", Lane.BATCH)
    if mode not in set(Lane):
        raise InvalidRequest(f"X-Batch-Mode must be one of {', '.join(Lane)}.", param="X-Batch-Mode")
    if mode == Lane.FLEX and request.path not in flex.ENDPOINTS:
        raise InvalidRequest(
            f"X-Batch-Mode: flex is there for {' and '.join(sorted(flex.ENDPOINTS))} only.", param="X-Batch-Mode"
        )
    return Lane(mode)


def _max_wait() -> float:
    """What `X-Batch-Max-Wait` allows, else GRACE_SECONDS.

    Raises:
        InvalidRequest: it is no number of seconds.
    """
    config: Settings = current_app.extensions["settings"]
    text = request.headers.get("X-Batch-Max-Wait")
    if text is None:
        return config.grace_seconds
    if not re.fullmatch(r"\d{1,9}(\.\d{1,3})?", text) or float(text) <= 0:
        raise InvalidRequest("X-Batch-Max-Wait must be a number of seconds above 0.", param="X-Batch-Max-Wait")
    return float(text)
