"""GET /stats: how it goes, the same from every process."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify

from tasks import stats

bp = Blueprint("stats", __name__)


@bp.get("/stats", provide_automatic_options=False)
def show() -> Response:
    """The figures of all processes, as JSON."""
    return jsonify(stats.snapshot())
