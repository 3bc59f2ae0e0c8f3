"""Anthropic's Messages and Message Batches."""

from __future__ import annotations

import json
import re
import uuid
from datetime import UTC, datetime
from typing import Any

from flask import Blueprint, Response, request

from tests.simulators.vendor import Body, Job, Line, Vendor, prompt, wanted_status

TYPES = {400: "invalid_request_error", 401: "authentication_error", 404: "not_found_error", 413: "request_too_large",
         429: "rate_limit_error", 500: "api_error", 529: "overloaded_error"}  # fmt: skip


def envelope(status: int, message: str) -> dict[str, Any]:
    """Anthropic's error."""
    return {"type": "error", "error": {"type": TYPES[status], "message": message}, "request_id": "req_sim"}


def error(status: int, message: str) -> Response:
    """It, as a response."""
    return Response(json.dumps(envelope(status, message)), status, mimetype="application/json")


def answer(url: str, body: Body) -> tuple[int, Any]:
    """The answer to one request."""
    status = wanted_status(body)
    if status != 200:
        return status, envelope(status, f"asked for {status}")
    text = prompt(body)
    content: list[dict[str, Any]] = [{"type": "text", "text": f"echo:{text}"}]
    stop = "end_turn"
    if body.get("tools"):
        content.append({"type": "tool_use", "id": "toolu_1", "name": body["tools"][0]["name"], "input": {"text": text}})
        stop = "tool_use"
    elif body.get("output_config", {}).get("format") or body.get("output_format"):
        content = [{"type": "text", "text": json.dumps({"text": text})}]
    if body.get("thinking"):
        content.insert(0, {"type": "thinking", "thinking": "hm", "signature": "sig"})
    return 200, {
        "id": f"msg_{uuid.uuid4().hex}", "type": "message", "role": "assistant", "model": body["model"],
        "content": content, "stop_reason": stop, "stop_sequence": None,
        "usage": {"input_tokens": 3, "output_tokens": 4},
    }  # fmt: skip


def blueprint(vendor: Vendor) -> Blueprint:
    """The API."""
    bp = Blueprint(vendor.name, __name__)
    batches = "/v1/messages/batches"

    def key() -> str:
        return request.headers.get("x-api-key") or request.headers.get("authorization", "")

    @bp.before_request
    def _admit() -> Response | None:
        if not key() or key().startswith(("bad", "sk-bad")):
            return error(401, "invalid x-api-key")
        if "anthropic-version" not in request.headers:
            return error(400, "anthropic-version: header is required")
        return None

    @bp.post("/v1/messages")
    def _send() -> Any:
        status, body = vendor.run_now("/v1/messages", request.get_json())
        return Response(json.dumps(body), status, mimetype="application/json")

    @bp.post(batches)
    def _create() -> Any:
        body = request.get_json()
        assert set(body) == {"requests"}
        lines = []
        for one in body["requests"]:
            assert set(one) == {"custom_id", "params"}
            assert re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", one["custom_id"])
            assert "stream" not in one["params"]
            lines.append(Line(one["custom_id"], one["params"], "/v1/messages"))
        beta = request.headers.get("anthropic-beta")
        return show(vendor.create(key(), lines, f"msgbatch_{uuid.uuid4().hex}", beta=beta))

    @bp.get(batches)
    def _list() -> Any:
        found = [show(job) for job in vendor.jobs_of(key())]
        return {"data": found, "has_more": False, "first_id": None, "last_id": found[-1]["id"] if found else None}

    @bp.get(f"{batches}/<job_id>")
    def _get(job_id: str) -> Any:
        job = vendor.job(key(), job_id)
        return show(job) if job else error(404, "no such batch")

    @bp.post(f"{batches}/<job_id>/cancel")
    def _cancel(job_id: str) -> Any:
        job = vendor.job(key(), job_id)
        if job is None:
            return error(404, "no such batch")
        vendor.cancel(job)
        return show(job)

    @bp.delete(f"{batches}/<job_id>")
    def _delete(job_id: str) -> Any:
        job = vendor.job(key(), job_id)
        if job is None or not job.ended:
            return error(404 if job is None else 400, "cannot be deleted")
        del vendor.jobs[job_id]
        return {"id": job_id, "type": "message_batch_deleted"}

    @bp.get(f"{batches}/<job_id>/results")
    def _results(job_id: str) -> Any:
        job = vendor.job(key(), job_id)
        if job is None or not job.ended:
            return error(404, "no results")
        texts = []
        for line in job.has_run():
            if line.status == 200:
                result = {"type": "succeeded", "message": line.answer}
            else:
                result = {"type": "errored", "error": line.answer}
            texts.append(json.dumps({"custom_id": line.key, "result": result}))
        rest = "canceled" if vendor.state(job) == "cancelled" else "expired"
        texts += [json.dumps({"custom_id": line.key, "result": {"type": rest}}) for line in job.has_not_run()]
        return Response("\n".join(reversed(texts)) + "\n", mimetype="application/x-jsonl")

    def show(job: Job) -> dict[str, Any]:
        done = job.has_run() if job.ended else []
        good = sum(line.status == 200 for line in done)
        rest = len(job.lines) - len(done) if job.ended else 0
        cancelled = vendor.state(job) == "cancelled"
        status = "ended" if job.ended else "canceling" if job.cancelled_at else "in_progress"
        return {
            "id": job.id, "type": "message_batch", "processing_status": status,
            "request_counts": {
                "processing": 0 if job.ended else len(job.lines), "succeeded": good, "errored": len(done) - good,
                "canceled": rest if cancelled else 0, "expired": 0 if cancelled else rest,
            },
            "created_at": moment(job.created), "expires_at": moment(job.created + 86_400),
            "ended_at": moment(job.created) if job.ended else None,
            "cancel_initiated_at": moment(job.cancelled_at) if job.cancelled_at else None, "archived_at": None,
            "results_url": f"{request.host_url}{vendor.name}{batches}/{job.id}/results" if job.ended else None,
        }  # fmt: skip

    return bp


def moment(seconds: float) -> str:
    """A timestamp."""
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
