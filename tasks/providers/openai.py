"""OpenAI's Files, Batches and synchronous endpoints, for one credential."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import IO, Any, Final

from tasks import flex, jsonl, vault
from tasks.batches import Batch
from tasks.errors import UpstreamRefused, UpstreamTrouble
from tasks.jsonl import ResultLine
from tasks.models import Group, Reply
from tasks.providers import http

#: Files are named by our batch id, and batches carry it, so that each can be found again.
METADATA_KEY: Final = "llm_proxy_batch"
COMPLETION_WINDOW: Final = "24h"
#: In case we cannot delete a file ourselves: the input after 3 days, results after 3 days.
FILE_LIFETIME_SECONDS: Final = 3 * 86_400
#: Shorter than a lease: when the lease is over, so is the call.
CALL_SECONDS: Final = 20.0
#: An upload or download goes on while the lease is renewed.
TRANSFER_SECONDS: Final = 1800.0
#: A day of the most batches that an account may create.
LIST_PAGES: Final = 500


def input_filename(batch_id: str) -> str:
    """The name of a batch's input file."""
    return f"llm-proxy-{batch_id}.jsonl"


class OpenAI:
    """The upstream as one group of requests sees it.

    Raises:
        CredentialGone: there is no credential any more.
        VaultError: it cannot be opened until the operator restores the vault key.
    """

    uploads = True
    separator = b""
    tail = jsonl.FORM_TAIL

    def __init__(self, group: Group) -> None:
        self._endpoint = group.endpoint
        self._headers = {"Authorization": vault.open_sealed(group.credential)}
        if group.organization:
            self._headers["OpenAI-Organization"] = group.organization
        if group.project:
            self._headers["OpenAI-Project"] = group.project

    def __repr__(self) -> str:
        return "OpenAI(credential=…)"

    def _json(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        options.setdefault("deadline_seconds", CALL_SECONDS)
        return http.call_json(method, path, headers=self._headers, **options)

    @property
    def doubt_seconds(self) -> float:
        """A "create" is over with its call."""
        return CALL_SECONDS

    def head(self, batch: Batch) -> bytes:
        """The multipart form up to the file."""
        return jsonl.form_head(
            input_filename(batch.id),
            {
                "purpose": "batch",
                "expires_after[anchor]": "created_at",
                "expires_after[seconds]": str(FILE_LIFETIME_SECONDS),
            },
        )

    def line(self, request_id: str, body: bytes) -> bytes:
        """One line of the input file."""
        return jsonl.line(request_id, self._endpoint, body)

    def parse(self, text: bytes) -> ResultLine:
        """A line of an output or error file."""
        return jsonl.parse_result(text)

    def upload(self, form: IO[bytes]) -> str:
        """Upload the form; returns the file's id."""
        headers = {**self._headers, "Content-Type": jsonl.CONTENT_TYPE}
        answer = http.call_json("POST", "/v1/files", headers=headers, data=form, deadline_seconds=TRANSFER_SECONDS)
        return _id(answer)

    def create(self, batch: Batch, form: IO[bytes]) -> str:
        """Create the batch, whose `metadata` carries our own id; returns the upstream's."""
        answer = self._json(
            "POST",
            "/v1/batches",
            json={
                "input_file_id": batch.input_file,
                "endpoint": self._endpoint,
                "completion_window": COMPLETION_WINDOW,
                "metadata": {METADATA_KEY: batch.id},
                "output_expires_after": {"anchor": "created_at", "seconds": FILE_LIFETIME_SECONDS},
            },
        )
        return _id(answer)

    def retrieve(self, upstream_id: str) -> dict[str, Any]:
        """The batch as it is now."""
        return self._json("GET", f"/v1/batches/{upstream_id}")

    def cancel(self, upstream_id: str) -> dict[str, Any]:
        """Ask the upstream to stop the batch; the batch as it is then."""
        return self._json("POST", f"/v1/batches/{upstream_id}/cancel")

    def find(self, batch: Batch) -> str | None:
        """The upstream's id of our batch, if it has one."""
        for listed in self._listed("/v1/batches", batch.since_seconds):
            metadata = listed.get("metadata")
            ours = isinstance(metadata, dict) and metadata.get(METADATA_KEY) == batch.id
            if ours or (batch.input_file and listed.get("input_file_id") == batch.input_file):
                return _id(listed)
        return None

    def find_input_files(self, batch: Batch) -> list[str]:
        """Ids of all input files of a batch of ours: more than one, when the answer to an upload was lost."""
        files = self._listed("/v1/files", batch.since_seconds, purpose="batch", order="desc")
        return [str(file["id"]) for file in files if file.get("filename") == input_filename(batch.id)]

    def _listed(self, path: str, since_seconds: float, **query: str) -> Iterator[dict[str, Any]]:
        """A list, newest first, page by page, to the first item that is older."""
        after: dict[str, str] = {}
        for _ in range(LIST_PAGES):
            page = self._json("GET", path, params={"limit": 100, **query, **after})
            items = [item for item in page.get("data") or [] if isinstance(item, dict)]
            yield from items
            created = items[-1].get("created_at") if items else 0.0
            if not page.get("has_more") or (isinstance(created, int | float) and created < since_seconds):
                return
            after = {"after": str(items[-1]["id"])}
        raise UpstreamTrouble(f"GET {path}: the list does not end", in_doubt=False)

    @contextlib.contextmanager
    def content(self, file_id: str) -> Iterator[Iterator[bytes]]:
        """A file's bytes in pieces."""
        with http.call(
            "GET", f"/v1/files/{file_id}/content", headers=self._headers, deadline_seconds=TRANSFER_SECONDS
        ) as response:
            yield response.iter_content(256 * 1024)

    def delete(self, file_id: str) -> None:
        """Delete a file; one that is gone already is deleted."""
        try:
            self._json("DELETE", f"/v1/files/{file_id}")
        except UpstreamRefused as error:
            if error.status != 404:
                raise

    def flex(self, body: bytes) -> bytes | None:
        """The body that asks for flex processing."""
        return flex.body(self._endpoint, body)

    def send(self, body: bytes, timeout_seconds: float) -> Reply:
        """One request, synchronously; every answer but 408, 409, 429 and 5xx is final."""
        headers = {**self._headers, "Content-Type": "application/json"}
        try:
            with http.call(
                "POST", self._endpoint, headers=headers, data=body, deadline_seconds=timeout_seconds
            ) as response:
                return Reply.of_upstream(response.status_code, http.reply_headers(response), response.content)
        except UpstreamRefused as error:
            return Reply.of_upstream(error.status, error.headers, error.body)


def _id(answer: dict[str, Any]) -> str:
    if not isinstance(answer.get("id"), str):
        raise UpstreamTrouble("the upstream's answer has no id", in_doubt=True)
    return str(answer["id"])
