"""GET /healthz: this process runs. GET /readyz: it may be sent traffic."""

from __future__ import annotations

from flask import Blueprint, Response, current_app, jsonify

from tasks import pressure
from tasks.errors import Draining
from web.waiting import Front

bp = Blueprint("health", __name__)


@bp.get("/healthz", provide_automatic_options=False)
def healthz() -> Response:
    """Alive."""
    return jsonify(status="ok")


@bp.get("/readyz", provide_automatic_options=False)
def readyz() -> Response:
    """Redis takes writes and this process is not going away; else 503."""
    front: Front = current_app.extensions["front"]
    if front.draining:
        raise Draining("The proxy is restarting.", retry_after_seconds=5)
    pressure.check_writable()
    return jsonify(status="ok")
