"""Gemini's native API: generateContent and its kin, batches as long-running operations, files by resumable upload."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime
from typing import Any

from flask import Blueprint, Response, request

from tests.simulators.vendor import Body, Job, Line, Vendor, prompt, wanted_status

STATUSES = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND",
            429: "RESOURCE_EXHAUSTED", 500: "INTERNAL", 503: "UNAVAILABLE"}  # fmt: skip
#: google.rpc.Code
RPC = {400: 3, 401: 16, 403: 7, 404: 5, 429: 8, 500: 13, 503: 14}
STATES = {"running": "RUNNING", "cancelling": "RUNNING", "completed": "SUCCEEDED", "failed": "FAILED",
          "expired": "EXPIRED", "cancelled": "CANCELLED"}  # fmt: skip


def envelope(status: int, message: str) -> dict[str, Any]:
    """Google's error."""
    return {"error": {"code": status, "message": message, "status": STATUSES.get(status, "UNKNOWN")}}


def error(status: int, message: str) -> Response:
    """It, as a response."""
    return Response(json.dumps(envelope(status, message)), status, mimetype="application/json")


def answer(url: str, body: Body) -> tuple[int, Any]:
    """The answer to one request."""
    status = wanted_status(body)
    if status != 200:
        return status, envelope(status, f"asked for {status}")
    text = prompt(body)
    if "mbed" in url:
        return 200, {"embedding": {"values": [float(len(text)), 0.5]}}
    part: dict[str, Any] = {"text": f"echo:{text}"}
    if body.get("tools"):
        name = body["tools"][0]["functionDeclarations"][0]["name"]
        part = {"functionCall": {"name": name, "args": {"text": text}}}
    elif body.get("generationConfig", {}).get("responseMimeType") == "application/json":
        part = {"text": json.dumps({"text": text})}
    return 200, {
        "candidates": [{"content": {"parts": [part], "role": "model"}, "finishReason": "STOP", "index": 0}],
        "usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 4, "totalTokenCount": 7},
        "modelVersion": "sim", "responseId": uuid.uuid4().hex,
    }  # fmt: skip


def _key() -> str:
    bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
    return request.headers.get("x-goog-api-key") or request.args.get("key") or bearer


def files(vendor: Vendor) -> Blueprint:
    """The file API."""
    bp = Blueprint(f"{vendor.name}-files", __name__)
    uploads: dict[str, tuple[str, str, int]] = {}

    @bp.post("/upload/<version>/files")
    def _upload(version: str) -> Any:
        if upload_id := request.args.get("upload_id"):
            key, name, size = uploads.pop(upload_id)
            assert request.headers["X-Goog-Upload-Command"] == "upload, finalize"
            assert request.headers["X-Goog-Upload-Offset"] == "0"
            assert "x-goog-api-key" not in request.headers
            content = request.get_data()
            assert len(content) == size
            file = vendor.store(key, name, content, "files/")
            return {"file": show(file)}, 200, {"X-Goog-Upload-Status": "final"}
        assert "authorization" not in request.headers
        assert request.headers["X-Goog-Upload-Protocol"] == "resumable"
        assert request.headers["X-Goog-Upload-Command"] == "start"
        upload_id = uuid.uuid4().hex
        size = int(request.headers["X-Goog-Upload-Header-Content-Length"])
        uploads[upload_id] = (_key(), request.get_json()["file"]["displayName"], size)
        return {}, 200, {"X-Goog-Upload-URL": f"{request.base_url}?upload_id={upload_id}"}

    @bp.get("/<version>/files")
    def _list(version: str) -> Any:
        return {"files": [show(f) for f in vendor.files.values() if f.key == _key()]}

    @bp.get("/download/<version>/files/<name>:download")
    def _download(version: str, name: str) -> Any:
        assert request.args["alt"] == "media"
        file = vendor.files.get(f"files/{name}")
        return Response(file.content) if file else error(403, "You do not have permission, or it may not exist.")

    @bp.delete("/<version>/files/<name>")
    def _delete(version: str, name: str) -> Any:
        return {} if vendor.files.pop(f"files/{name}", None) else error(403, "It may not exist.")

    def show(file: Any) -> dict[str, Any]:
        return {"name": file.id, "displayName": file.name, "createTime": moment(file.created)}

    return bp


def moment(seconds: float) -> str:
    """A timestamp."""
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


def blueprint(vendor: Vendor) -> Blueprint:
    """The models and the batches."""
    bp = Blueprint(vendor.name, __name__)

    @bp.before_request
    def _admit() -> Response | None:
        if not _key() or _key().startswith(("bad", "sk-bad")):
            return error(400, "API key not valid. Please pass a valid API key.")
        return None

    @bp.post("/<version>/models/<model>:<action>")
    def _model(version: str, model: str, action: str) -> Any:
        body = request.get_json()
        if action == "batchGenerateContent" or action == "asyncBatchEmbedContent":
            return _create(model, action, body["batch"])
        if action == "batchEmbedContents":
            found = [vendor.run_now(action, one)[1]["embedding"] for one in body["requests"]]
            return {"embeddings": found}
        status, told = vendor.run_now(action, body)
        return Response(json.dumps(told), status, mimetype="application/json")

    def _create(model: str, action: str, batch: dict[str, Any]) -> Any:
        if model == "no-batch":
            return error(404, f"models/{model} is not found, or is not supported for {action}.")
        source = batch["inputConfig"]
        if inline := source.get("requests"):
            assert request.content_length
            assert request.content_length < 20_000_000
            lines = [Line(one["metadata"]["key"], one["request"], action) for one in inline["requests"]]
        else:
            file = vendor.files.get(source["fileName"])
            if file is None:
                return error(400, "The file does not exist.")
            lines = []
            for text in filter(bytes.strip, file.content.split(b"\n")):
                line = json.loads(text)
                assert set(line) == {"key", "request"}
                lines.append(Line(line["key"], line["request"], action))
        job = vendor.create(
            _key(),
            lines,
            f"batches/{uuid.uuid4().hex[:20]}",
            name=batch["displayName"],
            model=model,
            inline=bool(inline),
            action=action,
        )
        return show(job)

    @bp.get("/<version>/batches")
    def _list(version: str) -> Any:
        return {"operations": [show(job) for job in vendor.jobs_of(_key())]}

    @bp.delete("/<version>/batches/<name>")
    def _delete(version: str, name: str) -> Any:
        return {} if vendor.jobs.pop(f"batches/{name}", None) else error(404, "no such batch")

    @bp.get("/<version>/batches/<name>")
    def _get(version: str, name: str) -> Any:
        job = vendor.job(_key(), f"batches/{name}")
        return show(job) if job else error(404, "no such batch")

    @bp.post("/<version>/batches/<name>:cancel")
    def _cancel(version: str, name: str) -> Any:
        job = vendor.job(_key(), f"batches/{name}")
        if job is None:
            return error(404, "no such batch")
        vendor.cancel(job)
        return {}

    def show(job: Job) -> dict[str, Any]:
        state = vendor.state(job)
        about: dict[str, Any] = {
            "@type": "type.googleapis.com/google.ai.generativelanguage.v1main.GenerateContentBatch",
            "name": job.id, "displayName": job.about["name"], "model": f"models/{job.about['model']}",
            "state": f"BATCH_STATE_{STATES[state]}", "createTime": moment(job.created),
            "batchStats": _stats(job),
        }  # fmt: skip
        shown: dict[str, Any] = {"name": job.id, "metadata": about, "done": job.ended}
        if state in {"completed", "cancelled"} and job.has_run():
            if job.about["inline"]:
                results = {"inlinedResponses": [_inlined(line) for line in job.has_run()]}
                embeds = job.about["action"] == "asyncBatchEmbedContent"
                about["output"] = {"inlinedEmbedContentResponses" if embeds else "inlinedResponses": results}
            else:
                if not job.files:
                    texts = [json.dumps(_result(line)) for line in job.has_run()]
                    content = ("\n".join(texts) + "\n").encode()
                    job.files["output"] = vendor.store(job.key, "results", content, "files/batch-").id
                about["output"] = {"responsesFile": job.files["output"]}
            shown["response"] = about["output"]
        if state in {"failed", "expired", "cancelled"}:
            shown["error"] = {"code": 13, "message": state, **job.end.error}
        return shown

    def _stats(job: Job) -> dict[str, str]:
        done = job.has_run()
        good = sum(line.status == 200 for line in done)
        counts = {
            "requestCount": len(job.lines),
            "successfulRequestCount": good,
            "failedRequestCount": len(done) - good,
        }
        return {name: str(count) for name, count in counts.items() if count}

    def _inlined(line: Line) -> dict[str, Any]:
        result = _result(line)
        return {"metadata": {"key": result.pop("key")}, **result}

    def _result(line: Line) -> dict[str, Any]:
        if line.status == 200:
            return {"key": line.key, "response": line.answer}
        return {"key": line.key, "error": {"code": RPC[line.status], "message": f"asked for {line.status}"}}

    return bp
