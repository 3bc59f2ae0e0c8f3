"""The synchronous endpoints and the list of models."""

from __future__ import annotations

import json
from typing import Any

from flask import Blueprint, Response, request

from tests.simulator import streams
from tests.simulator.answers import answer
from tests.simulator.errors import ApiError
from tests.simulator.greenlets import sleep
from tests.simulator.ledger import digest
from tests.simulator.prompts import QUESTION, failure, model_of
from tests.simulator.routes import json_body, state

bp = Blueprint("sync", __name__)

MODELS = ("gpt-4o-mini", "gpt-4.1", "text-embedding-3-small")
TIERS = ("flex", "priority", "scale")
#: Request headers that come back as `x-echo-<name>`, so that a test sees what reached the upstream.
ECHOED = ("openai-", "idempotency-", "x-batch-", "x-client-", "x-stainless-retry-count", "user-agent")


def complete() -> Response:
    """Answer one request at once."""
    endpoint, body, config = request.path, json_body(), state().config
    memory = state()
    memory.sync_now += 1
    memory.sync_most = max(memory.sync_most, memory.sync_now)
    sleep(config.sync_delay)
    memory.sync_now -= 1
    model = model_of(endpoint, body)
    if model.startswith("no-such"):
        message = f"The model `{model}` does not exist or you do not have access to it."
        raise ApiError(404, message, code="model_not_found")
    if failed := failure(endpoint, body, batched=False):
        status, problem = failed
        return Response(json.dumps(problem), status, mimetype="application/json")
    if config.flex_unavailable and body.get("service_tier") == "flex":
        raise ApiError(429, "Resource Unavailable", kind="resource_unavailable", code="resource_unavailable")
    tier = body.get("service_tier")
    reply = answer(endpoint, body, config, state().now(), tier if tier in TIERS else "default")
    response = _respond(endpoint, body, reply)
    state().ledger.bill(digest(endpoint, body))
    state().sync_requests += 1
    for name, value in request.headers.items():
        if name.lower().startswith(ECHOED):
            response.headers[f"x-echo-{name.lower()}"] = value
    return response


for _endpoint in QUESTION:
    bp.add_url_rule(_endpoint, _endpoint.removeprefix("/v1/").replace("/", "_"), complete, methods=["POST"])


def _respond(endpoint: str, body: dict[str, Any], reply: dict[str, Any]) -> Response:
    if body.get("stream") is not True:
        return Response(json.dumps(reply), mimetype="application/json")
    if endpoint not in streams.WRITERS:
        raise ApiError(400, "This endpoint does not stream.", param="stream", code="unsupported_value")
    include_usage = bool((body.get("stream_options") or {}).get("include_usage"))
    events = streams.WRITERS[endpoint](reply, include_usage)
    return Response(streams.paced(events, state().config.stream_delay), mimetype="text/event-stream")


@bp.get("/v1/models")
def models() -> dict[str, Any]:
    """A few models."""
    return {"object": "list", "data": [model(name) for name in MODELS]}


@bp.get("/v1/models/<path:id>")
def model(id: str) -> dict[str, Any]:
    """Any model one asks for, except those that do not exist by convention."""
    if id.startswith("no-such"):
        raise ApiError(404, f"The model '{id}' does not exist", param="model", code="model_not_found")
    return {"id": id, "object": "model", "created": 1_721_172_741, "owned_by": "system"}
