"""Gemini's native batches: a file of keyed lines, a long-running operation, a file of keyed answers.

`batchEmbedContents` asks for many embeddings in one call. A line has room for one, so such a request becomes several
lines, whose answers are put together again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import IO, Any, Final

import msgspec

from tasks import jsonl
from tasks.batches import Batch
from tasks.errors import UpstreamTrouble
from tasks.jsonl import MOST_LINE_BYTES, Response, ResultLine
from tasks.models import Group, Reply
from tasks.providers import google, http
from tasks.providers.account import Account, call_seconds
from tasks.providers.catalogue import Provider
from tasks.providers.envelopes import google_status

CREATE: Final = {
    "generateContent": "batchGenerateContent",
    "embedContent": "asyncBatchEmbedContent",
    "batchEmbedContents": "asyncBatchEmbedContent",
}
#: Google's states, without BATCH_STATE_ or JOB_STATE_, in OpenAI's words. A job that waits has been admitted: a full
#: queue refuses it when it is created.
STATUSES: Final = {
    "UNSPECIFIED": "in_progress", "QUEUED": "in_progress", "PENDING": "in_progress", "RUNNING": "in_progress",
    "PAUSED": "in_progress", "UPDATING": "in_progress", "CANCELLING": "cancelling", "SUCCEEDED": "completed",
    "PARTIALLY_SUCCEEDED": "completed", "FAILED": "failed", "CANCELLED": "cancelled", "EXPIRED": "expired",
}  # fmt: skip
#: The HTTP statuses of google.rpc.Code, by its numbers.
RPC: Final = {
    1: 499, 2: 500, 3: 400, 4: 504, 5: 404, 6: 409, 7: 403, 8: 429, 9: 400, 10: 409, 11: 400, 12: 501, 13: 500,
    14: 503, 15: 500, 16: 401,
}  # fmt: skip
RESOURCE_EXHAUSTED: Final = 8
#: What has room for one embedding in a line.
SPLIT: Final = "batchEmbedContents"
#: Of answers that wait for their other parts.
MOST_KEPT_BYTES = 4 * MOST_LINE_BYTES
PART: Final = re.compile(r"([0-9a-f]{32})-(\d+)-(\d+)")


class _Line(msgspec.Struct):
    key: str
    response: msgspec.Raw = msgspec.Raw(b"null")
    error: msgspec.Raw = msgspec.Raw(b"null")


class _Embedding(msgspec.Struct):
    embedding: msgspec.Raw


class _Embeddings(msgspec.Struct):
    requests: list[msgspec.Raw]


_lines = msgspec.json.Decoder(_Line)
_embedding = msgspec.json.Decoder(_Embedding)
_embeddings = msgspec.json.Decoder(_Embeddings)


class Gemini:
    """The upstream as one group of requests sees it.

    Raises:
        CredentialGone: there is no credential any more.
        VaultError: it cannot be opened until the operator restores the vault key.
    """

    uploads = True
    separator = b""
    tail = b""

    def __init__(self, group: Group, provider: Provider) -> None:
        self._group = group
        self._account = Account(group, provider)
        self._files = google.Files(provider.base_url, self._account.headers, self._account.root)
        self._parts: dict[str, dict[int, bytes]] = {}
        self._failed: set[str] = set()
        self._kept = 0

    def __repr__(self) -> str:
        return "Gemini(credential=…)"

    @property
    def splits(self) -> bool:
        """Only requests for many embeddings."""
        return self._group.endpoint == SPLIT

    @property
    def doubt_seconds(self) -> float:
        """A "create" is over with its call."""
        return call_seconds()

    def head(self, batch: Batch) -> bytes:
        """A file goes up as it is."""
        return b""

    def line(self, request_id: str, body: bytes) -> bytes:
        """One line, or one for each embedding."""
        lines = parts(self._group.endpoint, request_id, body)
        return b"".join(b'{"key":"%s","request":%s}\n' % (key.encode(), one) for key, one in lines)

    def upload(self, form: IO[bytes], batch: Batch) -> str:
        """Upload what was written; returns the file's name."""
        return self._files.upload(form, batch)

    def create(self, batch: Batch, form: IO[bytes]) -> str:
        """Create the batch under our id; returns the operation's name."""
        body = {"batch": {"displayName": google.display_name(batch), "inputConfig": {"fileName": batch.input_file}}}
        return http.text(self._account.json("POST", self._creation, json=body), "name")

    @property
    def _creation(self) -> str:
        return f"/models/{self._account.model}:{CREATE[self._group.endpoint]}"

    def retrieve(self, upstream_id: str) -> dict[str, Any]:
        """The batch as it is now."""
        return read(self._account.json("GET", f"/{upstream_id}"))

    def cancel(self, upstream_id: str) -> object:
        """Ask the upstream to stop the batch."""
        return self._account.json("POST", f"/{upstream_id}:cancel")

    def find(self, batch: Batch) -> str | None:
        """The upstream's name of our batch, if it has one."""
        for operation in google.pages(self._account.call, "/batches", "operations"):
            if _about(operation).get("displayName") == google.display_name(batch):
                return http.text(operation, "name")
        return None

    def find_input_files(self, batch: Batch) -> list[str]:
        """Names of all input files of a batch of ours: more than one, when the answer to an upload was lost."""
        return self._files.of(batch)

    def content(self, file_id: str) -> AbstractContextManager[Iterator[bytes]]:
        """A result file's bytes in pieces."""
        self._forget()
        return self._files.content(file_id)

    def parse(self, text: bytes) -> ResultLine | None:
        """A line of the result file; None while other lines of its request are still to come."""
        line = _lines.decode(text)
        part = PART.fullmatch(line.key)
        if bytes(line.error) != b"null":
            if part:  # an embedding that failed is the answer of its whole request
                self._kept -= sum(map(len, self._parts.pop(part[1], {}).values()))
                self._failed.add(part[1])
            return ResultLine(part[1] if part else line.key, _error(line.error))
        jsonl.check_object(line.response)
        if not part:
            return ResultLine(line.key, Response(200, None, line.response))
        number, total = int(part[2]), int(part[3])
        if number >= total:
            raise ValueError("a part beyond the last one")
        if part[1] in self._failed:
            return None
        found = self._parts.setdefault(part[1], {})
        if number in found:
            return None  # said twice
        found[number] = bytes(_embedding.decode(line.response).embedding)
        self._kept += len(found[number])
        if self._kept > MOST_KEPT_BYTES:
            raise UpstreamTrouble("answers come in parts and none is whole", in_doubt=False)
        if len(found) < total:
            return None
        self._kept -= sum(map(len, found.values()))
        whole = b'{"embeddings":[%s]}' % b",".join(found[n] for n in sorted(found))
        del self._parts[part[1]]
        return ResultLine(part[1], Response(200, None, msgspec.Raw(whole)))

    def _forget(self) -> None:
        self._parts.clear()
        self._failed.clear()
        self._kept = 0

    def delete(self, file_id: str) -> None:
        """Delete a file; one that is gone already is deleted."""
        self._files.delete(file_id)

    def flex(self, body: bytes) -> bytes | None:
        """Its flex tier is not asked for in the body."""
        return None

    def send(self, body: bytes, timeout_seconds: float) -> Reply:
        """One request, synchronously."""
        return self._account.send(self._group, body, timeout_seconds)


def parts(endpoint: str, request_id: str, body: bytes) -> list[tuple[str, bytes]]:
    """What a request is made of, each with its key: one line, or one for each embedding."""
    if endpoint != SPLIT:
        return [(request_id, body)]
    inner = _embeddings.decode(body).requests
    return [(f"{request_id}-{n}-{len(inner)}", bytes(one)) for n, one in enumerate(inner)]


def _about(operation: dict[str, Any]) -> dict[str, Any]:
    about = operation.get("metadata")
    return about if isinstance(about, dict) else {}


def _error(raw: msgspec.Raw) -> Response:
    """A google.rpc.Status as the error that a call would have been answered with."""
    status = msgspec.json.decode(raw)
    status = status if isinstance(status, dict) else {"message": str(status)}
    code = _http_status(status.get("code"))
    error = {**status, "code": code, "status": status.get("status") or google_status(code)}
    return Response(code, None, msgspec.Raw(msgspec.json.encode({"error": error})))


def read(operation: dict[str, Any], output: str = "") -> dict[str, Any]:
    """An operation in OpenAI's words.

    Args:
        output: where its results are, if that is known.

    Raises:
        UpstreamTrouble: it has succeeded, and says not where its results are.
    """
    about, error = _about(operation), operation.get("error")
    state = str(about.get("state") or "").removeprefix("BATCH_STATE_").removeprefix("JOB_STATE_")
    status = STATUSES.get(state, state.lower())
    if isinstance(error, dict) and status not in {"failed", "cancelled", "expired"}:
        status = "failed"
    output = output or _output(about) or _output(operation.get("response"))
    if status == "completed" and not output:
        raise UpstreamTrouble("a batch that has succeeded does not name its results", in_doubt=False)
    return {
        "id": operation.get("name"),
        "status": status,
        "output_file_id": output,
        "errors": [_reason(error)] if isinstance(error, dict) else None,
        "request_counts": _counts(about.get("batchStats")),
    }


def _counts(stats: object) -> dict[str, int]:
    """The lines so far; Google writes whole numbers as text."""
    told = stats if isinstance(stats, dict) else {}
    names = {"total": "requestCount", "completed": "successfulRequestCount", "failed": "failedRequestCount"}
    found = {ours: str(told.get(theirs, "")) for ours, theirs in names.items()}
    return {name: int(text) for name, text in found.items() if text.isdecimal()}


def _output(about: object) -> str:
    """The result file, wherever it is said."""
    if not isinstance(about, dict):
        return ""
    for inner in (about.get("output"), about.get("dest"), about):
        if isinstance(inner, dict) and isinstance(inner.get("responsesFile"), str):
            return str(inner["responsesFile"])
    return ""


def _reason(error: dict[str, Any]) -> dict[str, Any]:
    """Why a batch failed, as one of a failed batch's `errors.data`."""
    code = error.get("code")
    if code in {RESOURCE_EXHAUSTED, 429}:
        return {"code": "token_limit_exceeded", "message": error.get("message")}
    return {"code": google_status(_http_status(code)).lower(), "message": error.get("message")}


def _http_status(code: object) -> int:
    """The HTTP status of an error whose code is one of google.rpc, or a status already."""
    if not isinstance(code, int):
        return 500
    return RPC.get(code, code if 400 <= code < 600 else 500)
