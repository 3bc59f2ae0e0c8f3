"""The batched endpoints: parse, accept, wait, reply."""

from __future__ import annotations

import re

from flask import Blueprint, Response, current_app, request

from tasks import flex, vault
from tasks.errors import InvalidRequest, UnsupportedEncoding
from tasks.models import Attempt, Group, Lane, Request
from tasks.settings import Settings
from web import bodies, clients, parsing, relay, tokens
from web.answer import Answer
from web.waiting import Front

bp = Blueprint("api", __name__)

#: `OpenAI-` headers that a group carries; a line cannot carry any other.
CARRIED_HEADERS = frozenset({"openai-organization", "openai-project"})


def batched() -> Response:
    """Answer one request through a batch, or through the lane that it asks for."""
    caller = tokens.caller()
    if request.query_string or not _can_be_carried():
        return relay.relay()
    lane, max_wait = _lane(), _max_wait()
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        # A small body could hold any number of megabytes.
        raise UnsupportedEncoding("A body with a Content-Encoding cannot be batched: send it uncompressed.")
    config: Settings = current_app.extensions["settings"]
    advice = f"{config.max_body_mb} MB, which LLM_PROXY_MAX_BODY_MB allows"
    body = bodies.read(request.environ["wsgi.input"], request.content_length, config.max_body_mb * 1_000_000, advice)
    parsed = parsing.parse(request.path, body)
    if parsed.background:
        return relay.relay(body=body)
    tries = clients.tries(request.headers)
    front: Front = current_app.extensions["front"]
    held = front.hold(
        Request(
            group=Group(
                credential=vault.reference(caller.credential, caller.allowance.label),
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
            attempt=Attempt.RETRY if tries else Attempt.FIRST,
            tries=tries,
            allowance=caller.allowance,
        ),
        caller.credential,
        request.environ.get("gunicorn.socket"),
    )
    return Answer(
        held,
        clients.patience(request.headers, config),
        endpoint=request.path,
        lane=lane,
        stream=parsed.stream,
        usage=parsed.include_usage,
    )


for endpoint in parsing.ENDPOINTS:
    bp.add_url_rule(endpoint, endpoint.replace("/", "_"), batched, methods=["POST"], provide_automatic_options=False)


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
