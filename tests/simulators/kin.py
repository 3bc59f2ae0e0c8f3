"""OpenAI's dialect as its kin speak it: paths, keys, purposes, wrappers and status strings of their own."""

from __future__ import annotations

import json
import re
import time
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from flask import Blueprint, Response, request

from tests.simulators.vendor import Body, Job, Line, Vendor, prompt, wanted_status

STATES = {
    "running": "in_progress", "cancelling": "cancelling", "completed": "completed", "failed": "failed",
    "expired": "expired", "cancelled": "cancelled",
}  # fmt: skip


@dataclass(frozen=True)
class Wire:
    """What a vendor's documentation says."""

    root: str
    jobs: str = "/batches"
    sync: str = "{endpoint}"
    auth: tuple[str, ...] = ("authorization",)
    purpose: str = "batch"
    wrapper: str = ""
    capitals: bool = False
    iso: bool = False
    metadata: bool = True
    url: str = "/v1{endpoint}"
    query: str = ""
    windows: tuple[str, ...] = ("24h",)
    mistral: bool = False
    expires: bool = False
    google_files: bool = False
    endpoints: tuple[str, ...] = ("/chat/completions", "/embeddings")
    states: dict[str, str] = field(default_factory=dict)


KIN = {
    "openai": Wire("/v1", expires=True),
    "azure": Wire("/openai/v1", auth=("api-key", "authorization")),
    "azure-classic": Wire(
        "/openai", sync="/deployments/{model}{endpoint}", auth=("api-key", "authorization"), url="{endpoint}",
        query="api-version",
    ),
    "groq": Wire("/openai/v1", windows=("24h", "7d"), endpoints=("/chat/completions",)),
    "mistral": Wire(
        "/v1", jobs="/batch/jobs", mistral=True,
        states={
            "running": "RUNNING", "cancelling": "CANCELLATION_REQUESTED", "completed": "SUCCESS", "failed": "FAILED",
            "expired": "TIMEOUT_EXCEEDED", "cancelled": "CANCELLED",
        },
    ),
    "together": Wire(
        "/v1", purpose="batch-api", wrapper="job", capitals=True, iso=True, metadata=False,
        endpoints=("/chat/completions",),
    ),
    "doubleword": Wire("/v1", windows=("24h", "1h")),
    "deepinfra": Wire("/v1/openai"),
    "nebius": Wire("/v1"),
    "gemini-openai": Wire("/v1beta/openai", metadata=False, google_files=True),
    "acme": Wire("/api", auth=("x-acme-key",), capitals=True, windows=("48h",)),
}  # fmt: skip


def error(status: int, message: str, **more: Any) -> Response:
    """OpenAI's envelope."""
    body = {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": None, **more}}
    return Response(json.dumps(body), status, mimetype="application/json")


def answer(url: str, body: Body) -> tuple[int, Any]:
    """The answer to one request."""
    status = wanted_status(body)
    if status != 200:
        return status, {"error": {"message": f"asked for {status}", "type": "x", "param": None, "code": None}}
    text = prompt(body)
    if url.endswith("/embeddings"):
        inputs = body["input"] if isinstance(body["input"], list) else [body["input"]]
        data = [{"object": "embedding", "index": n, "embedding": [float(len(t)), 0.5]} for n, t in enumerate(inputs)]
        return 200, {"object": "list", "model": body["model"], "data": data,
                     "usage": {"prompt_tokens": 3, "total_tokens": 3}}  # fmt: skip
    message: dict[str, Any] = {"role": "assistant", "content": f"echo:{text}"}
    if body.get("tools"):
        call = {"name": body["tools"][0]["function"]["name"], "arguments": json.dumps({"text": text})}
        message |= {"content": None, "tool_calls": [{"id": "call_1", "type": "function", "function": call}]}
    elif body.get("response_format"):
        message["content"] = json.dumps({"text": text})
    return 200, {
        "id": f"chatcmpl-{uuid.uuid4().hex}", "object": "chat.completion", "created": int(time.time()),
        "model": body["model"], "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7},
    }  # fmt: skip


def blueprint(vendor: Vendor, wire: Wire) -> Blueprint:
    """The vendor's API."""
    bp = Blueprint(vendor.name, __name__)
    jobs = wire.root + wire.jobs

    def key() -> str:
        for name in wire.auth:
            if value := request.headers.get(name):
                return value.removeprefix("Bearer ")
        return ""

    @bp.before_request
    def _admit() -> Response | None:
        if not key() or key().startswith(("bad", "sk-bad")):
            return error(401, "wrong key", code="invalid_api_key")
        if wire.query and wire.query not in request.args:
            return error(404, f"{wire.query} is missing")
        return None

    if not wire.google_files:

        @bp.post(f"{wire.root}/files")
        def _upload() -> Any:
            if request.form.get("purpose") != wire.purpose:
                return error(400, f"purpose must be {wire.purpose}")
            extra = set(request.form) - {"purpose"}
            if wire.expires:
                assert request.form["expires_after[anchor]"] == "created_at"
                extra -= {"expires_after[anchor]", "expires_after[seconds]"}
            if extra:
                return error(400, f"unknown form fields {extra}")
            sent = request.files["file"]
            file = vendor.store(key(), sent.filename or "", sent.read())
            return {"id": file.id, "object": "file", "filename": file.name, "purpose": wire.purpose}

        @bp.get(f"{wire.root}/files")
        def _files() -> Any:
            found = [f for f in vendor.files.values() if f.key == key()]
            return {"data": [{"id": f.id, "filename": f.name, "created_at": f.created} for f in found]}

        @bp.get(f"{wire.root}/files/<file_id>/content")
        def _content(file_id: str) -> Any:
            file = vendor.files.get(file_id)
            return Response(file.content) if file and file.key == key() else error(404, "no such file")

        @bp.delete(f"{wire.root}/files/<file_id>")
        def _delete(file_id: str) -> Any:
            return {"id": file_id, "deleted": vendor.files.pop(file_id, None) is not None}

    @bp.post(jobs)
    def _create() -> Any:
        body = request.get_json()
        file_id = body["input_files"][0] if wire.mistral else body.get("input_file_id")
        if wire.mistral:
            unknown = set(body) - {"input_files", "endpoint", "model", "timeout_hours", "metadata"}
        else:
            unknown = set(body) - {"input_file_id", "endpoint", "completion_window", *(["metadata"] * wire.metadata)}
            unknown -= {"output_expires_after"} if wire.expires else set()
            if body.get("completion_window") not in wire.windows:
                return error(400, "wrong window", param="completion_window")
        if unknown:
            return error(400, f"unknown fields {unknown}")
        file = vendor.files.get(file_id)
        if file is None or file.key != key():
            return error(400, "no such file", code="invalid_file")
        endpoint = body["endpoint"]
        if endpoint not in {wire.url.format(endpoint=known) for known in wire.endpoints}:
            return error(400, "no such endpoint", param="endpoint", code="invalid_endpoint")
        lines = []
        for text in file.content.split(b"\n"):
            if not text.strip():
                continue
            line = json.loads(text)
            if wire.mistral:
                assert set(line) == {"custom_id", "body"}, line.keys()
                assert body["model"] == line["body"]["model"]
            else:
                assert set(line) == {"custom_id", "method", "url", "body"}, line.keys()
                assert line["url"] == endpoint
            assert "stream" not in line["body"]
            assert re.fullmatch(r"[A-Za-z0-9_-]{1,64}", line["custom_id"])
            lines.append(Line(line["custom_id"], line["body"], endpoint))
        job = vendor.create(
            key(), lines, f"batch_{uuid.uuid4().hex}", file=file_id, metadata=body.get("metadata"), endpoint=endpoint
        )
        shown = show(job)
        return {wire.wrapper: shown} if wire.wrapper else shown

    @bp.get(jobs)
    def _list() -> Any:
        found = [show(job) for job in vendor.jobs_of(key())]
        if wire.mistral:
            first = int(request.args.get("page", 0)) * int(request.args["page_size"])
            return {"data": found[first : first + int(request.args["page_size"])], "total": len(found)}
        return {"data": found}

    @bp.get(f"{jobs}/<job_id>")
    def _get(job_id: str) -> Any:
        job = vendor.job(key(), job_id)
        return show(job) if job else error(404, "no such batch")

    @bp.post(f"{jobs}/<job_id>/cancel")
    def _cancel(job_id: str) -> Any:
        job = vendor.job(key(), job_id)
        if job is None:
            return error(404, "no such batch")
        vendor.cancel(job)
        return show(job)

    def _sync(model: str = "") -> Any:
        status, body = vendor.run_now(request.path, request.get_json())
        return Response(json.dumps(body), status, mimetype="application/json")

    for number, known in enumerate(wire.endpoints):
        bp.add_url_rule(
            wire.root + wire.sync.format(endpoint=known, model="<model>"), f"sync{number}", _sync, methods=["POST"]
        )

    def moment(seconds: float) -> Any:
        return datetime.fromtimestamp(seconds, UTC).isoformat() if wire.iso else int(seconds)

    def show(job: Job) -> dict[str, Any]:
        state = vendor.state(job)
        if job.ended and not job.files and state != "failed":
            _write(job)
        name = wire.states.get(state) or (STATES[state].upper() if wire.capitals else STATES[state])
        done = job.has_run()
        failed = sum(line.status != 200 for line in done)
        shown: dict[str, Any] = {"id": job.id, "object": "batch", "status": name, "created_at": moment(job.created)}
        if wire.mistral:
            return shown | {
                "input_files": [job.about["file"]], "metadata": job.about["metadata"],
                "endpoint": job.about["endpoint"],
                "output_file": job.files.get("output"), "error_file": job.files.get("error"),
                "total_requests": len(job.lines), "succeeded_requests": len(done) - failed, "failed_requests": failed,
                "completed_requests": len(done),
                "errors": [{"message": job.end.error["message"], "count": 1}] if state == "failed" else [],
            }  # fmt: skip
        return shown | {
            "endpoint": job.about["endpoint"], "input_file_id": job.about["file"],
            "completion_window": wire.windows[0], "metadata": job.about["metadata"],
            "output_file_id": job.files.get("output"), "error_file_id": job.files.get("error"),
            "request_counts": {"total": len(job.lines), "completed": len(done) - failed, "failed": failed},
            "errors": {"object": "list", "data": [job.end.error]} if state == "failed" else None,
        }  # fmt: skip

    def _write(job: Job) -> None:
        output: list[str] = []
        errors: list[str] = []
        for line in job.has_run():
            response = {"status_code": line.status, "request_id": f"req_{line.key[:8]}", "body": line.answer}
            told = {"id": "x", "custom_id": line.key, "response": response, "error": None}
            (output if line.status == 200 else errors).append(json.dumps(told))
        code = "batch_expired" if job.end.how == "expired" else "batch_cancelled"
        for line in job.has_not_run():
            errors.append(
                json.dumps({"custom_id": line.key, "response": None, "error": {"code": code, "message": code}})
            )
        for name, texts in (("output", output), ("error", errors)):
            if texts:
                prefix = "files/batch-" if wire.google_files else "file-"
                content = ("\n".join(texts) + "\n").encode()
                job.files[name] = vendor.store(job.key, f"{job.id}_{name}.jsonl", content, prefix).id

    return bp
