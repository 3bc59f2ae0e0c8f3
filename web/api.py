"""The batched endpoints: parse, accept, wait, reply."""

from __future__ import annotations

from flask import Blueprint, Response, current_app, request

from tasks import vault
from tasks.errors import InvalidRequest
from tasks.models import Attempt, Group, Lane, Request
from tasks.settings import Settings
from web import auth, bodies, clients, parsing, relay
from web.answer import Answer
from web.waiting import Front

bp = Blueprint("api", __name__)

#: `OpenAI-` headers that a group carries; a line cannot carry any other.
CARRIED_HEADERS = frozenset({"openai-organization", "openai-project"})
LANES = {"batch": Lane.BATCH, "sync": Lane.SYNC}


def batched() -> Response:
    """Answer one request through a batch, or through the lane that it asks for."""
    credential = auth.credential(request.headers)
    if request.query_string or not _can_be_carried():
        return relay.relay()
    lane = _lane()
    config: Settings = current_app.extensions["settings"]
    body = bodies.read(request.environ["wsgi.input"], request.content_length, config.max_body_mb)
    parsed = parsing.parse(request.path, body)
    if parsed.background:
        return relay.relay(body=body)
    tries = clients.tries(request.headers)
    front: Front = current_app.extensions["front"]
    held = front.hold(
        Request(
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
            attempt=Attempt.RETRY if tries else Attempt.FIRST,
            tries=tries,
        ),
        credential,
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
    mode = request.headers.get("X-Batch-Mode", "batch")
    if mode not in LANES:
        raise InvalidRequest(f"X-Batch-Mode must be one of {', '.join(LANES)}.", param="X-Batch-Mode")
    return LANES[mode]
