"""What the end of a batch, and of each line in it, means for the requests. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Final

import msgspec

from tasks.errors import UpstreamRefused
from tasks.jsonl import ResultLine
from tasks.models import Outcome, Reply
from tasks.settle import error_reply

#: Line errors of requests that the upstream did not run.
NOT_RUN: Final = frozenset({"batch_expired", "batch_cancelled"})
#: The queue of the upstream is full: try again later.
QUEUE_FULL: Final = frozenset({"token_limit_exceeded", "enqueued_token_limit_exceeded", "request_limit_exceeded"})
#: The account has no money left for this: asking again will not help.
QUOTA: Final = frozenset({
    "billing_hard_limit_reached", "billing_not_active", "insufficient_quota",
    "organization_spend_limit_exceeded", "project_spend_limit_exceeded",
})  # fmt: skip
#: The model or the endpoint is there, or not, but it cannot be batched. Names vary by server.
UNBATCHABLE: Final = frozenset({
    "model_not_found", "model_not_supported", "unsupported_model", "invalid_endpoint", "unsupported_endpoint",
    "endpoint_not_supported",
})  # fmt: skip
#: The upstream has no such path.
NO_SUCH_PATH: Final = frozenset({404, 405, 501})


#: Statuses of answers that have no body: one that came with them would be taken for the next answer.
BODILESS: Final = frozenset({204, 205, 304})


@dataclass(frozen=True, slots=True, kw_only=True)
class LineEnd:
    """How one line ended.

    Attributes:
        reply: what the caller gets, if this is final.
        retry: whether the line should be submitted again while it has attempts left.
    """

    reply: Reply | None
    retry: bool = False


def line_end(line: ResultLine, *, upstream_id: str, upstream_status: str) -> LineEnd:
    """Classify a result line by its status, never by the file that it stood in."""
    response, (code, message) = line.response, _error(line.error)
    status = response.status_code if response is not None else 0
    if response is None or not status:
        if code in NOT_RUN or upstream_status in {"expired", "cancelled"}:
            return LineEnd(reply=None)
        return LineEnd(reply=error_reply(502, message or "The upstream did not run this line.", code=code), retry=True)
    if not 200 <= status < 600 or status in BODILESS:
        return LineEnd(reply=error_reply(502, "The upstream answered with no status of HTTP.", code="bad_status"))
    headers = {"content-type": "application/json", "x-batch-id": upstream_id, "x-batch-lane": "batch"}
    if response.request_id:
        headers["x-request-id"] = response.request_id
    reply = Reply.of_upstream(status, headers, response.body_bytes)
    if (code or message) and response.is_empty:
        reply = _told_beside(status, headers, code, message)
    return LineEnd(reply=reply, retry=status == 429 or status >= 500)


def _told_beside(status: int, headers: dict[str, str], code: str | None, message: str) -> Reply:
    """The reply of a line whose error stands beside its response and not in it, as some servers write it.

    One that calls itself a success is none; it may have been run, and is not asked again.
    """
    refused = 400 <= status < 500
    error = error_reply(
        status if status >= 400 else 502,
        message or "The upstream refused the request.",
        code=code,
        type_="invalid_request_error" if refused and status != 429 else "upstream_error",
        outcome=Outcome.FAILED,
    )
    return replace(error, headers={**error.headers, **headers})


def _error(raw: msgspec.Raw) -> tuple[str | None, str]:
    error = msgspec.json.decode(raw)
    if isinstance(error, dict):
        return _word(error, "code") or None, _word(error, "message")
    return None, str(error or "")


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedBatch:
    """What a failed validation means: nothing of the batch was run.

    Attributes:
        queue_full: all lines are queued again, after a pause.
        lines: replies for single lines by their number, from 1; the others are queued again.
        all: the reply for every line, if it was not about single ones.
        unbatchable: the model or endpoint cannot be batched; `all` says it in the upstream's words.
    """

    queue_full: bool = False
    unbatchable: bool = False
    lines: dict[int, Reply] = field(default_factory=dict)
    all: Reply | None = None


def failed_batch(errors: str) -> FailedBatch:
    """Read the `errors.data` of a failed batch, given as JSON."""
    items: list[dict[str, Any]] = [item for item in msgspec.json.decode(errors or "[]") if isinstance(item, dict)]
    if any(_queue_full(item) for item in items):
        return FailedBatch(queue_full=True)
    for item in items:
        if _word(item, "code") in UNBATCHABLE:
            # It names lines, but the next file would fail for the same reason.
            return FailedBatch(unbatchable=True, all=_validation_reply(item))
    lines = {item["line"]: _validation_reply(item) for item in items if isinstance(item.get("line"), int)}
    if lines and len(lines) == len(items):
        return FailedBatch(lines=lines)
    first = items[0] if items else {"message": "The upstream failed the batch without saying why."}
    return FailedBatch(all=_validation_reply(first))


def _queue_full(item: dict[str, Any]) -> bool:
    message = str(item.get("message") or "").lower()
    return _word(item, "code") in QUEUE_FULL or ("enqueued" in message and "limit" in message)


def _word(item: dict[str, Any], name: str) -> str:
    """A code or a type; some servers put other things there."""
    return str(item.get(name) or "")


def _validation_reply(item: dict[str, Any]) -> Reply:
    code = _word(item, "code") or None
    if code in QUOTA:
        status = 429
    elif code == "model_not_found":
        status = 404
    else:
        known = code is not None and (
            code.startswith(("invalid", "mismatched", "missing")) or isinstance(item.get("line"), int)
        )
        status = 400 if known else 502
    message = str(item.get("message") or "The upstream refused the request.")
    type_ = "invalid_request_error" if status in {400, 404} else "upstream_error"
    return error_reply(status, message, code=code, type_=type_, outcome=Outcome.FAILED)


def is_final(answer: UpstreamRefused) -> bool:
    """Whether a "not now" to upload or create means "not at all", or "not so much": nothing to repeat as it is."""
    error = _error_of(answer)
    if answer.status >= 500:
        return answer.status == 501
    return _word(error, "code") in QUOTA or _word(error, "type") in QUOTA or _queue_full(error)


def is_queue_full(answer: UpstreamRefused) -> bool:
    """Whether the upstream refused to create a batch because its queue is full."""
    return _queue_full(_error_of(answer))


def is_unbatchable(answer: UpstreamRefused, *, created: bool) -> bool:
    """Whether a refusal says that such requests cannot be batched here at all.

    Args:
        created: it answered "create", else the upload. A 404 to an upload is one only if the path is unknown:
            in OpenAI's own words it may be about a project.
    """
    error = _error_of(answer)
    if _word(error, "code") in UNBATCHABLE or (error.get("param") == "endpoint" and answer.status == 400):
        return True
    if answer.status not in NO_SUCH_PATH:
        return False
    return created or answer.status != 404 or not error or _word(error, "code") == "unknown_url"


def errors_of(answer: UpstreamRefused) -> str:
    """The refusal of a "create" as a failed batch's `errors.data`, in JSON."""
    return msgspec.json.encode([_error_of(answer)]).decode()


def _error_of(answer: UpstreamRefused) -> dict[str, Any]:
    """The `error` of an answer in OpenAI's shape; empty for another one."""
    try:
        body = msgspec.json.decode(answer.body)
    except (ValueError, RecursionError):
        return {}
    error = body.get("error") if isinstance(body, dict) else None
    return error if isinstance(error, dict) else {}


def status(answer: dict[str, Any]) -> str:
    """The upstream's word for how the batch does."""
    return str(answer.get("status") or "").lower()


def progress(answer: dict[str, Any]) -> dict[str, Any]:
    """The upstream's `request_counts`; 0 for what makes no sense."""
    counts = answer.get("request_counts")
    counts = counts if isinstance(counts, dict) else {}
    found = {name: counts.get(name) for name in ("total", "completed", "failed")}
    return {f"progress_{name}": n if isinstance(n, int) and n > 0 else 0 for name, n in found.items()}


def batch_fields(answer: dict[str, Any]) -> dict[str, Any]:
    """What delivery must know of a terminal batch; an empty file id is none."""
    errors = answer.get("errors")
    items = errors.get("data") if isinstance(errors, dict) else errors
    return {
        "output_file": str(answer.get("output_file_id") or ""),
        "error_file": str(answer.get("error_file_id") or ""),
        "errors": msgspec.json.encode(items if isinstance(items, list) else []).decode(),
        **progress(answer),
    }
