"""Files as OpenAI and its kin keep them: a multipart form up, /files/{id}/content down."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import IO

from tasks import jsonl
from tasks.batches import Batch
from tasks.providers import http
from tasks.providers.account import TRANSFER_SECONDS, Account


def input_filename(batch_id: str) -> str:
    """The name of a batch's input file."""
    return f"llm-proxy-{batch_id}.jsonl"


class Files:
    """The files of one account."""

    tail = jsonl.FORM_TAIL

    def __init__(self, account: Account) -> None:
        self._account = account

    def head(self, batch: Batch) -> bytes:
        """The multipart form up to the file."""
        return jsonl.form_head(input_filename(batch.id), self._account.provider.upload)

    def upload(self, form: IO[bytes], batch: Batch) -> str:
        """Upload the form; returns the file's id."""
        answer = self._account.json(
            "POST", "/files", headers={"Content-Type": jsonl.CONTENT_TYPE}, data=form, deadline_seconds=TRANSFER_SECONDS
        )
        return http.text(answer, "id")

    def of(self, batch: Batch) -> list[str]:
        """Ids of all files that carry the batch's name."""
        listed = self._account.listed(
            "/files",
            batch.since_seconds,
            limit=100,
            purpose=self._account.provider.upload.get("purpose", "batch"),
            order="desc",
        )
        return [http.text(file, "id") for file in listed if file.get("filename") == input_filename(batch.id)]

    @contextlib.contextmanager
    def content(self, file_id: str) -> Iterator[Iterator[bytes]]:
        """A file's bytes in pieces."""
        with self._account.call("GET", f"/files/{file_id}/content", deadline_seconds=TRANSFER_SECONDS) as response:
            yield response.iter_content(http.PIECE_BYTES)

    def delete(self, file_id: str) -> None:
        """Delete a file; one that is gone already is deleted."""
        http.delete(self._account.call("DELETE", f"/files/{file_id}"))
