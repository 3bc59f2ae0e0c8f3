"""create_app(): the routes, and around each of them the log, the faults, the key and the error envelope."""

from __future__ import annotations

import json
import uuid

from flask import Flask, Response, g, request
from werkzeug.exceptions import HTTPException

from tests.simulator.config import Config
from tests.simulator.errors import ApiError
from tests.simulator.faults import HANG_SECONDS, OF_THE_ANSWER, cut, refusal, spoil
from tests.simulator.greenlets import sleep
from tests.simulator.routes import batches, control, echo, files, sync
from tests.simulator.state import State
from tests.simulator.webhooks import Webhooks

CONTROL = "/_control/"


def create_app(config: Config | None = None) -> Flask:
    """A simulator with a memory of its own."""
    app = Flask(__name__, static_folder=None)
    state = State(config or Config())
    webhooks = Webhooks(state)
    app.extensions["simulator"] = state
    app.url_map.merge_slashes = False  # a redirect of our own would hide what a relay sent

    @app.before_request
    def admit() -> Response | None:
        """Log the call, let a fault strike it, and see whose key it carries."""
        g.fault = None
        if request.path.startswith(CONTROL):
            return None
        webhooks.ensure_running()
        _record(state)
        g.fault = fault = state.script.pick(f"{request.method} {request.path}")
        if fault and fault.kind not in OF_THE_ANSWER:
            sleep(fault.seconds or (HANG_SECONDS if fault.kind == "hang" else 0))
            if fault.kind in ("reset_before", "hang"):
                return cut(request.environ)
            if fault.kind != "slow":
                raise refusal(fault)
        g.key = _key()
        return None

    @app.after_request
    def release(response: Response) -> Response:
        """Name the answer, or take it away again."""
        response.headers["x-request-id"] = f"req_{uuid.uuid4().hex}"
        response.headers["openai-version"] = "2020-10-01"
        if g.fault and g.fault.kind == "reset_after":
            sleep(g.fault.seconds)
            return cut(request.environ)
        return spoil(response, g.fault) if g.fault and g.fault.kind in OF_THE_ANSWER else response

    @app.errorhandler(ApiError)
    def refuse(error: ApiError) -> Response:
        return Response(json.dumps(error.body), error.status, error.headers, mimetype="application/json")

    @app.errorhandler(HTTPException)
    def refuse_http(error: HTTPException) -> Response:
        """An unknown path or method, in OpenAI's words."""
        status = error.code or 500
        if status == 405:
            message = f"Not allowed to {request.method} on {request.path}"
            return refuse(ApiError(405, message, code="method_not_supported"))
        message = f"Invalid URL ({request.method} {request.path})" if status == 404 else str(error.description)
        return refuse(ApiError(status, message, code="unknown_url" if status == 404 else None))

    for module in (files, batches, sync, echo, control):
        app.register_blueprint(module.bp)
    return app


def _record(state: State) -> None:
    """Count the call under its route and keep it in the log."""
    route = request.url_rule.rule.replace("<", "{").replace(">", "}") if request.url_rule else "other"
    state.calls[f"{request.method} {route.replace('path:', '')}"] += 1
    state.log.append(
        {
            "at": state.now(),
            "method": request.method,
            "path": request.path,
            "query": request.environ["QUERY_STRING"],
            "headers": echo.header_pairs(),
        }
    )


def _key() -> str:
    """The caller's API key; one that begins with `bad` is wrong."""
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not key.strip():
        message = "You didn't provide an API key. You need to provide it in an Authorization header (Bearer YOUR_KEY)."
        raise ApiError(401, message)
    if key.startswith(("bad", "sk-bad")):
        raise ApiError(401, f"Incorrect API key provided: {key[:3]}***.", code="invalid_api_key")
    return key.strip()
