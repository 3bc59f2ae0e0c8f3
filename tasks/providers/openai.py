"""OpenAI's batch dialect: a JSONL file, a job on it, and up to two result files.

What other providers of the dialect call otherwise is data: see catalogue.Provider.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import IO, Any

from tasks import flex, jsonl
from tasks.batches import Batch
from tasks.jsonl import ResultLine
from tasks.models import Group, Reply
from tasks.providers import catalogue, google, http
from tasks.providers.account import Account, call_seconds
from tasks.providers.catalogue import Provider
from tasks.providers.openai_files import Files


class OpenAI:
    """The upstream as one group of requests sees it.

    Raises:
        CredentialGone: there is no credential any more.
        VaultError: it cannot be opened until the operator restores the vault key.
    """

    splits = False
    uploads = True
    separator = b""

    def __init__(self, group: Group, provider: Provider) -> None:
        self._group = group
        self._provider = provider
        self._account = Account(group, provider)
        self._files: Files | google.Files = Files(self._account)
        if provider.files == "gemini":
            self._files = google.Files(provider.files_url, self._account.headers, google.VERSION)
        self._url = provider.line_url.format(endpoint=group.endpoint.removeprefix("/v1"))
        self.tail = self._files.tail

    def __repr__(self) -> str:
        return f"OpenAI({self._provider.name}, credential=…)"

    @property
    def doubt_seconds(self) -> float:
        """A "create" is over with its call."""
        return call_seconds()

    def head(self, batch: Batch) -> bytes:
        """What precedes the lines."""
        return self._files.head(batch)

    def line(self, request_id: str, body: bytes) -> bytes:
        """One line of the input file."""
        return (
            jsonl.bare_line(request_id, body) if self._provider.bare_lines else jsonl.line(request_id, self._url, body)
        )

    def parse(self, text: bytes) -> ResultLine:
        """A line of an output or error file."""
        return jsonl.parse_result(text)

    def upload(self, form: IO[bytes], batch: Batch) -> str:
        """Upload what was written; returns the file's id."""
        return self._files.upload(form, batch)

    def create(self, batch: Batch, form: IO[bytes]) -> str:
        """Create the batch, marked with our own id where the provider has room for it; returns the upstream's."""
        values = {
            "file": batch.input_file,
            "endpoint": self._url,
            "model": self._group.model,
            "window": self._provider.completion_window,
            "marker": batch.id,
        }
        body = catalogue.fill(self._provider.create, values)
        return http.text(self._read(self._account.json("POST", self._provider.jobs, json=body)), "id")

    def retrieve(self, upstream_id: str) -> dict[str, Any]:
        """The batch as it is now."""
        return self._read(self._account.json("GET", f"{self._provider.jobs}/{upstream_id}"))

    def cancel(self, upstream_id: str) -> object:
        """Ask the upstream to stop the batch."""
        return self._account.json("POST", f"{self._provider.jobs}/{upstream_id}/cancel")

    def find(self, batch: Batch) -> str | None:
        """The upstream's id of our batch, if it has one: it carries our mark, or our file."""
        provider = self._provider
        for listed in self._account.listed(
            provider.jobs, batch.since_seconds, numbered=provider.list_page, **provider.list_query
        ):
            found = self._read(listed)
            files = found["input_file_id"]
            files = files if isinstance(files, list) else [files]
            if found["marker"] == batch.id or (batch.input_file and batch.input_file in files):
                return http.text(found, "id")
        return None

    def find_input_files(self, batch: Batch) -> list[str]:
        """Ids of all input files of a batch of ours: more than one, when the answer to an upload was lost."""
        return self._files.of(batch)

    def content(self, file_id: str) -> AbstractContextManager[Iterator[bytes]]:
        """A result file's bytes in pieces."""
        return self._files.content(file_id)

    def delete(self, file_id: str) -> None:
        """Delete a file; one that is gone already is deleted."""
        self._files.delete(file_id)

    def flex(self, body: bytes) -> bytes | None:
        """The body that asks for flex processing."""
        return flex.body(self._group.endpoint, body) if self._provider.flex else None

    def send(self, body: bytes, timeout_seconds: float) -> Reply:
        """One request, synchronously."""
        return self._account.send(self._group, body, timeout_seconds)

    def _read(self, answer: dict[str, Any]) -> dict[str, Any]:
        """A batch object in OpenAI's words."""
        inner = answer.get(self._provider.wrapper) if self._provider.wrapper else None
        batch = inner if isinstance(inner, dict) else answer
        found = {name: _at(batch, self._provider.field(name)) for name in catalogue.FIELDS}
        status = str(found["status"] or "").lower()
        if isinstance(found["errors"], str):
            found["errors"] = [{"message": found["errors"]}] if found["errors"] else None
        counts = {name: found[name] for name in ("total", "completed", "failed")}
        return {**found, "status": self._provider.statuses.get(status, status), "request_counts": counts}


def _at(value: Any, path: str) -> Any:
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value
