"""/v1/batches: create, list, look at, cancel."""

from __future__ import annotations

from typing import Any

from flask import Blueprint

from tests.simulator.errors import ApiError
from tests.simulator.lifecycle import Batch
from tests.simulator.prompts import QUESTION
from tests.simulator.routes import caller, expiry, invalid, json_body, page, state

bp = Blueprint("batches", __name__)

MAX_PAGE = 100
MAX_PAIRS, MAX_KEY, MAX_VALUE = 16, 64, 512


@bp.post("/v1/batches")
def create() -> dict[str, Any]:
    """Create a batch; its input file is validated later."""
    body = json_body()
    for name in ("input_file_id", "endpoint", "completion_window"):
        if not isinstance(body.get(name), str):
            message = f"Missing required parameter: '{name}'."
            raise ApiError(400, message, param=name, code="missing_required_parameter")
    if body["endpoint"] not in QUESTION:
        raise invalid("endpoint", f"'{body['endpoint']}' is not one of {', '.join(QUESTION)}")
    if body["completion_window"] != "24h":
        raise invalid("completion_window", "must be '24h'")
    metadata = _metadata(body.get("metadata"))
    expires = body.get("output_expires_after") or {}
    lifetime = expiry("output_expires_after", expires.get("anchor"), expires.get("seconds"))
    file = state().file(caller(), body["input_file_id"])
    if file is None:
        message = f"No such File object: {body['input_file_id']}"
        raise ApiError(400, message, param="input_file_id", code="invalid_request")
    if file.purpose != "batch":
        raise ApiError(400, f"Invalid file purpose: {file.purpose}", param="input_file_id", code="invalid_request")
    return _show(state().add_batch(file, body["endpoint"], metadata, lifetime))


@bp.get("/v1/batches")
def list_batches() -> dict[str, Any]:
    """The key's batches, newest first."""
    found = state().batches_of(caller())
    if state().config.list_lags:
        found = [batch for batch in found if batch.input.id not in state().files]
    return page(found, lambda batch: batch.id, _show, MAX_PAGE)


@bp.get("/v1/batches/<id>")
def retrieve(id: str) -> dict[str, Any]:
    """One batch as it is now."""
    return _show(_batch(id))


@bp.post("/v1/batches/<id>/cancel")
def cancel(id: str) -> dict[str, Any]:
    """Ask an unfinished batch to stop."""
    batch = _batch(id)
    if batch.ended:
        raise ApiError(409, f"Cannot cancel a batch with status '{batch.status}'.")
    state().cancel(batch)
    return _show(batch)


def _batch(batch_id: str) -> Batch:
    if batch := state().batch(caller(), batch_id):
        return batch
    raise ApiError(404, f"No batch found with id '{batch_id}'.")


def _show(batch: Batch) -> dict[str, Any]:
    return batch.as_json(state().now())


def _metadata(given: object) -> dict[str, str] | None:
    """Metadata within the documented limits."""
    if given is None:
        return None
    if not isinstance(given, dict) or len(given) > MAX_PAIRS:
        raise invalid("metadata", f"must be an object of at most {MAX_PAIRS} pairs")
    for name, value in given.items():
        if not isinstance(value, str) or len(value) > MAX_VALUE or len(name) > MAX_KEY:
            raise invalid("metadata", f"keys have at most {MAX_KEY} characters, values are strings of {MAX_VALUE}")
    return given
