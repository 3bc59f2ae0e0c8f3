"""/v1/echo: what reached the upstream, byte for byte, and answers of a wanted shape; for tests of a relay."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from typing import Any

from flask import Blueprint, Response, request

from tests.simulator.greenlets import sleep
from tests.simulator.streams import DONE, event, paced

bp = Blueprint("echo", __name__)

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
PATTERN = bytes(range(256)) * 256
READ_BYTES = 1 << 16
#: Of a longer body only length and hash come back.
MAX_BODY_BYTES = 1 << 20


def header_pairs() -> list[list[str]]:
    """The request's headers as they came, repeated ones too."""
    pairs = request.environ.get("simulator.headers", request.headers.items())
    return [[name, value] for name, value in pairs]


@bp.route("/v1/echo/<path:path>", methods=METHODS, provide_automatic_options=False)
def echo(path: str) -> Response:
    """Describe the request; `?status=` chooses the status of the answer."""
    kept, size, sha256 = bytearray(), 0, hashlib.sha256()
    while piece := request.stream.read(READ_BYTES):
        size += len(piece)
        sha256.update(piece)
        if size <= MAX_BODY_BYTES:
            kept += piece
    seen: dict[str, Any] = {
        "method": request.method,
        "target": request.environ.get("simulator.target", request.full_path),
        "path": path,
        "query": request.environ["QUERY_STRING"],
        "headers": header_pairs(),
        "body_sha256": sha256.hexdigest(),
        "body_length": size,
    }
    if size <= MAX_BODY_BYTES:
        try:
            seen["body"] = kept.decode()
        except UnicodeDecodeError:
            seen["body_base64"] = base64.b64encode(kept).decode()
    return Response(json.dumps(seen), request.args.get("status", 200, int), mimetype="application/json")


@bp.get("/v1/echo/stream")
def stream() -> Response:
    """`n` server-sent events with `delay` seconds between them."""
    n, delay = request.args.get("n", 5, int), request.args.get("delay", 0.1, float)
    events = [*(event({"i": index}) for index in range(n)), DONE]
    return Response(paced(events, delay), mimetype="text/event-stream")


@bp.get("/v1/echo/bytes")
def raw_bytes() -> Response:
    """`n` bytes that count from 0 to 255 over and over, streamed; `chunked=1` hides their number."""
    n = request.args.get("n", 0, int)

    def pieces() -> Iterator[bytes]:
        for start in range(0, n, len(PATTERN)):
            yield PATTERN[: n - start]
            sleep(0)

    response = Response(pieces(), mimetype="application/octet-stream")
    if not request.args.get("chunked"):
        response.content_length = n
    return response
