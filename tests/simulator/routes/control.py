"""/_control: what a test sees of the simulator and does to it. Needs no key and is not part of any vendor's API."""

from __future__ import annotations

import hashlib
import math
from typing import Any

import msgspec
from flask import Blueprint, Response, request

from tests.simulator.content import chunks
from tests.simulator.errors import ApiError
from tests.simulator.lifecycle import Batch, Status
from tests.simulator.routes import json_body, state

bp = Blueprint("control", __name__, url_prefix="/_control")


@bp.get("/stats")
def stats() -> dict[str, Any]:
    """Everything that can be counted; `?brief=1` leaves the batches out."""
    memory = state()
    memory.look_at(memory.batches.values())
    brief = request.args.get("brief")
    return {
        "batches": [] if brief else [_describe(batch) for batch in list(memory.batches.values())],
        "files_live": len(memory.files),
        "files": [] if brief else [file.filename for file in memory.files.values()],
        "billed": memory.ledger.as_json(),
        "sync_requests": memory.sync_requests,
        "sync_most": memory.sync_most,
        "calls": dict(memory.calls),
    }


@bp.get("/lines/<id>")
def lines(id: str) -> Response:
    """A batch's input file exactly as it was received."""
    batch = state().batches.get(id)
    if batch is None:
        raise ApiError(404, f"No batch '{id}'.")
    return Response(chunks(batch.input.content), mimetype="application/jsonl")


@bp.get("/log")
def log() -> dict[str, Any]:
    """The latest calls under /v1, oldest first."""
    return {"log": list(state().log)}


@bp.route("/config", methods=["GET", "POST"])
def config() -> dict[str, Any]:
    """The configuration, after replacing the fields that are given; null puts one back to its default."""
    if request.method == "POST":
        try:
            state().configure(json_body())
        except msgspec.ValidationError as error:
            raise ApiError(400, str(error)) from error
    found: dict[str, Any] = msgspec.to_builtins(state().config)
    return found


@bp.post("/reset")
def reset() -> dict[str, Any]:
    """Back to the moment of the start."""
    state().reset()
    return {}


@bp.post("/advance")
def advance() -> dict[str, Any]:
    """Move the clock forward."""
    seconds = json_body().get("seconds")
    if not isinstance(seconds, int | float) or not math.isfinite(seconds):
        raise ApiError(400, "'seconds' must be a number.", param="seconds")
    state().offset += seconds
    return {"now": state().now()}


@bp.post("/finish")
def finish() -> dict[str, Any]:
    """End all waiting of unfinished batches, stuck ones too."""
    return {"finished": state().finish()}


def _describe(batch: Batch) -> dict[str, Any]:
    validating = batch.status == Status.VALIDATING
    return {
        "id": batch.id,
        "key": hashlib.sha256(batch.key.encode()).hexdigest()[:8],
        "model": batch.checked.model,
        "endpoint": batch.endpoint,
        "status": batch.status,
        "lines": len(batch.checked.lines),
        "ran": 0 if validating else batch.done(state().now()),
        "metadata": batch.metadata,
        "created_at": batch.created_at,
        "ended_at": batch.at[batch.status] if batch.ended else None,
        "input_file_id": batch.input.id,
        "output_file_id": batch.output_file_id,
        "error_file_id": batch.error_file_id,
    }
