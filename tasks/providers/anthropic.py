"""Anthropic's Message Batches: "create" carries the requests, and the results are one stream of lines.

A batch has no room for a mark of ours and no file that could be taken away. So a "create" whose answer was lost is
looked for by what it must look like: as many requests, made at that moment, known to none of our batches. Whether it
is ours its results tell, and until it has ended nothing is created anew.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import IO, Any, Final

import msgspec

from tasks import batches, jsonl
from tasks.batches import Batch
from tasks.errors import UpstreamTrouble
from tasks.jsonl import Response, ResultLine
from tasks.models import Group, Reply
from tasks.providers import http
from tasks.providers.account import LIST_PAGES, TRANSFER_SECONDS, Account, unix_seconds
from tasks.providers.catalogue import Provider

BATCHES: Final = "/messages/batches"
#: A "create" carries up to 256 MB.
CREATE_SECONDS = 300.0
#: After the end of such a call nothing comes of it any more.
SETTLING_SECONDS = 60.0
#: How long to wait before a batch that may be ours is looked at again.
UNDECIDED_SECONDS = 30.0
#: The clock of Anthropic and that of Redis may differ by this much.
SKEW_SECONDS: Final = 120.0
STATUSES: Final = {
    "invalid_request_error": 400, "authentication_error": 401, "billing_error": 402, "permission_error": 403,
    "not_found_error": 404, "request_too_large": 413, "rate_limit_error": 429, "api_error": 500, "timeout_error": 504,
    "overloaded_error": 529,
}  # fmt: skip
NOT_RUN: Final = {
    "expired": msgspec.Raw(b'{"code":"batch_expired"}'),
    "canceled": msgspec.Raw(b'{"code":"batch_cancelled"}'),
}


class _Result(msgspec.Struct):
    type: str
    message: msgspec.Raw = msgspec.Raw(b"null")
    error: msgspec.Raw = msgspec.Raw(b"null")


class _Line(msgspec.Struct):
    custom_id: str
    result: _Result


class _Error(msgspec.Struct, frozen=True):
    type: str = "api_error"


class _Envelope(msgspec.Struct):
    error: _Error = _Error()
    request_id: str | None = None


_lines = msgspec.json.Decoder(_Line)
_envelopes = msgspec.json.Decoder(_Envelope)


class Anthropic:
    """The upstream as one group of requests sees it.

    Raises:
        CredentialGone: there is no credential any more.
        VaultError: it cannot be opened until the operator restores the vault key.
    """

    splits = False
    uploads = False
    separator = b",\n"
    tail = b"]}"

    def __init__(self, group: Group, provider: Provider) -> None:
        self._group = group
        self._account = Account(group, provider)

    def __repr__(self) -> str:
        return "Anthropic(credential=…)"

    @property
    def doubt_seconds(self) -> float:
        """A "create" may have been under way for as long as it may take."""
        return CREATE_SECONDS + SETTLING_SECONDS

    def head(self, batch: Batch) -> bytes:
        """The beginning of the body of "create"."""
        return b'{"requests":['

    def line(self, request_id: str, body: bytes) -> bytes:
        """One of its requests."""
        return b'{"custom_id":"%s","params":%s}' % (request_id.encode(), body)

    def upload(self, form: IO[bytes], batch: Batch) -> str:
        """There is no file: "create" carries the lines."""
        return ""

    def create(self, batch: Batch, form: IO[bytes]) -> str:
        """Create the batch; returns the upstream's id."""
        answer = self._account.json(
            "POST", BATCHES, headers={"Content-Type": "application/json"}, data=form, deadline_seconds=CREATE_SECONDS
        )
        return http.text(answer, "id")

    def retrieve(self, upstream_id: str) -> dict[str, Any]:
        """The batch as it is now."""
        return _read(self._account.json("GET", f"{BATCHES}/{upstream_id}"))

    def cancel(self, upstream_id: str) -> object:
        """Ask the upstream to stop the batch."""
        return self._account.json("POST", f"{BATCHES}/{upstream_id}/cancel")

    def find(self, batch: Batch) -> str | None:
        """The upstream's id of our batch, if it has one.

        Raises:
            UpstreamTrouble: one that may be ours has not ended.
        """
        ids = {request_id for request_id, _ in batches.lines(batch.id)}
        for listed in self._listed(batch.create_at / 1000 - SKEW_SECONDS):
            counts = _counts(listed)
            upstream_id = http.text(listed, "id")
            if sum(counts.values()) != len(ids) or batches.is_known(upstream_id):
                continue
            if listed.get("processing_status") != "ended":
                raise UpstreamTrouble(
                    "a batch that may be ours has not ended", in_doubt=False, retry_after_seconds=UNDECIDED_SECONDS
                )
            if self._first_id(upstream_id) in ids:
                return upstream_id
        return None

    def _listed(self, since_seconds: float) -> Iterator[dict[str, Any]]:
        """The account's batches, newest first, to the first one that is older."""
        after: dict[str, str] = {}
        for _ in range(LIST_PAGES):
            page = self._account.json("GET", BATCHES, params={"limit": 100, **after})
            for item in http.items(page, "data", f"GET {BATCHES}"):
                created = unix_seconds(item.get("created_at"))
                if created is not None and created < since_seconds:
                    return
                yield item
            if not page.get("has_more"):
                return
            if not isinstance(page.get("last_id"), str):
                break
            after = {"after_id": page["last_id"]}
        raise UpstreamTrouble("the list of batches does not end", in_doubt=False)

    def _first_id(self, upstream_id: str) -> str:
        with self.content(upstream_id) as chunks:
            first = next((text for text in jsonl.split_lines(chunks) if text.strip()), b"{}")
        try:
            return _lines.decode(first).custom_id
        except ValueError:
            return ""

    def find_input_files(self, batch: Batch) -> list[str]:
        """There are none."""
        return []

    @contextlib.contextmanager
    def content(self, file_id: str) -> Iterator[Iterator[bytes]]:
        """The results of a batch, whose id stands for its files."""
        with self._account.call("GET", f"{BATCHES}/{file_id}/results", deadline_seconds=TRANSFER_SECONDS) as response:
            yield response.iter_content(http.PIECE_BYTES)

    def parse(self, text: bytes) -> ResultLine:
        """A line of the results."""
        line = _lines.decode(text)
        result = line.result
        if result.type == "succeeded":
            jsonl.check_object(result.message)
            return ResultLine(line.custom_id, Response(200, None, result.message))
        if result.type == "errored":
            told = _envelopes.decode(result.error)
            status = STATUSES.get(told.error.type, 500)
            return ResultLine(line.custom_id, Response(status, told.request_id, result.error))
        if result.type in NOT_RUN:
            return ResultLine(line.custom_id, None, NOT_RUN[result.type])
        raise ValueError(f"a result of the unknown type {result.type[:50]}")

    def delete(self, file_id: str) -> None:
        """Delete the batch, and with it the upstream's copies of prompts and answers."""
        http.delete(self._account.call("DELETE", f"{BATCHES}/{file_id}"))

    def flex(self, body: bytes) -> bytes | None:
        """There is no such tier."""
        return None

    def send(self, body: bytes, timeout_seconds: float) -> Reply:
        """One request, synchronously."""
        return self._account.send(self._group, body, timeout_seconds)


def _counts(answer: dict[str, Any]) -> dict[str, int]:
    """How many requests ended in which way; what is no count counts nothing."""
    told = answer.get("request_counts")
    told = told if isinstance(told, dict) else {}
    return {name: n for name, n in told.items() if isinstance(n, int) and n > 0}


def _read(answer: dict[str, Any]) -> dict[str, Any]:
    """A batch in OpenAI's words."""
    counts = _counts(answer)
    status = str(answer.get("processing_status") or "")
    failed = counts.get("errored")
    if status == "ended":
        failed = sum(counts.values()) - counts.get("succeeded", 0)  # each has its line, whatever became of it
        cancelled = counts.get("canceled") or answer.get("cancel_initiated_at")
        status = "expired" if counts.get("expired") else "cancelled" if cancelled else "completed"
    upstream_id = http.text(answer, "id")
    return {
        "id": upstream_id,
        "status": {"canceling": "cancelling"}.get(status, status),
        "output_file_id": upstream_id,
        "request_counts": {
            "total": sum(counts.values()),
            "completed": counts.get("succeeded"),
            "failed": failed,
        },
    }
