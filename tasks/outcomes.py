"""What the end of a batch, and of each line in it, means for the requests. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from tasks.jsonl import ResultLine
from tasks.models import Outcome, Reply
from tasks.settle import error_reply

#: Line errors of requests that the upstream did not run.
NOT_RUN: Final = frozenset({"batch_expired", "batch_cancelled"})
#: The queue of the upstream is full: try again later.
QUEUE_FULL: Final = frozenset({"token_limit_exceeded", "enqueued_token_limit_exceeded", "request_limit_exceeded"})
#: Validation codes of a failed batch and the status that the synchronous endpoint would have answered.
STATUS_BY_CODE: Final = {
    "model_not_found": 404,
    "billing_hard_limit_reached": 429,
    "billing_not_active": 429,
    "insufficient_quota": 429,
    "organization_spend_limit_exceeded": 429,
    "project_spend_limit_exceeded": 429,
}


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
    if line.response is not None and line.response.status_code:
        response = line.response
        headers = {"content-type": "application/json", "x-batch-id": upstream_id, "x-batch-lane": "batch"}
        if response.request_id:
            headers["x-request-id"] = response.request_id
        reply = Reply.of_upstream(response.status_code, headers, response.body_bytes)
        return LineEnd(reply=reply, retry=response.status_code == 429 or response.status_code >= 500)
    code, message = _error(line.error)
    if code in NOT_RUN or upstream_status in {"expired", "cancelled"}:
        return LineEnd(reply=None)
    return LineEnd(reply=error_reply(502, message or "The upstream did not run this line.", code=code), retry=True)


def _error(raw: msgspec.Raw) -> tuple[str | None, str]:
    error = msgspec.json.decode(raw)
    if isinstance(error, dict):
        return (str(error["code"]) if error.get("code") else None), str(error.get("message") or "")
    return None, str(error or "")


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedBatch:
    """What a failed validation means: nothing of the batch was run.

    Attributes:
        queue_full: all lines are queued again, after a pause.
        lines: replies for single lines by their number, from 1; the others are queued again.
        all: the reply for every line, if it was not about single ones.
    """

    queue_full: bool = False
    lines: dict[int, Reply] = field(default_factory=dict)
    all: Reply | None = None


def failed_batch(errors: str) -> FailedBatch:
    """Read the `errors.data` of a failed batch, given as JSON."""
    items: list[dict[str, Any]] = [item for item in msgspec.json.decode(errors or "[]") if isinstance(item, dict)]
    codes = [str(item.get("code") or "") for item in items]
    if any(_queue_full(code, str(item.get("message") or "")) for code, item in zip(codes, items, strict=True)):
        return FailedBatch(queue_full=True)
    lines = {item["line"]: _validation_reply(item) for item in items if isinstance(item.get("line"), int)}
    if lines and len(lines) == len(items):
        return FailedBatch(lines=lines)
    first = items[0] if items else {"message": "The upstream failed the batch without saying why."}
    return FailedBatch(all=_validation_reply(first))


def _queue_full(code: str, message: str) -> bool:
    return code in QUEUE_FULL or ("enqueued" in message.lower() and "limit" in message.lower())


def _validation_reply(item: dict[str, Any]) -> Reply:
    code = str(item.get("code") or "") or None
    if code in STATUS_BY_CODE:
        status = STATUS_BY_CODE[code]
    else:
        known = code is not None and (
            code.startswith(("invalid", "mismatched", "missing")) or isinstance(item.get("line"), int)
        )
        status = 400 if known else 502
    message = str(item.get("message") or "The upstream refused the request.")
    type_ = "invalid_request_error" if status in {400, 404} else "upstream_error"
    return error_reply(status, message, code=code, type_=type_, outcome=Outcome.FAILED)
