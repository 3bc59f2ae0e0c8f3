"""GET /stats: how it goes, the same from every process."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, jsonify, request

from tasks import overview, spending
from tasks.errors import InvalidRequest
from web import access

bp = Blueprint("stats", __name__)


@bp.get("/stats", provide_automatic_options=False)
@access.guarded
def show() -> Response:
    """The figures of all processes, as JSON; `?by=model`, `day` or `credential` adds what they used."""
    by = request.args.get("by")
    if by is not None and by not in spending.BY:
        raise InvalidRequest(f"by must be one of {', '.join(spending.BY)}.", param="by")
    found: dict[str, Any] = overview.read()
    if by is not None:
        found = {**found, "usage": {**found["usage"], "by": by, "rows": overview.usage_by(by)}}
    return jsonify(found)
