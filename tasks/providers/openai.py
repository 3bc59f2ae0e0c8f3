"""OpenAI's Files, Batches and synchronous endpoints, for one credential."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import IO, Any, Final

from tasks import vault
from tasks.errors import UpstreamRefused, UpstreamTrouble
from tasks.jsonl import MOST_LINE_BYTES
from tasks.models import Group, Reply
from tasks.providers import http
from tasks.settle import error_reply

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

TERMINAL: Final = frozenset({"completed", "failed", "expired", "cancelled"})
RUNNING: Final = frozenset({"validating", "in_progress", "finalizing", "cancelling"})


def input_filename(batch_id: str) -> str:
    """The name of a batch's input file."""
    return f"llm-proxy-{batch_id}.jsonl"


class OpenAI:
    """The upstream as one group of requests sees it.

    Raises:
        CredentialGone: there is no credential any more.
        VaultError: it cannot be opened until the operator restores the vault key.
    """

    def __init__(self, group: Group) -> None:
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

    def upload(self, form: IO[bytes], content_type: str) -> str:
        """Upload a multipart form that holds the input file; returns the file's id."""
        headers = {**self._headers, "Content-Type": content_type}
        answer = http.call_json("POST", "/v1/files", headers=headers, data=form, deadline_seconds=TRANSFER_SECONDS)
        return _id(answer)

    def create(self, batch_id: str, input_file: str, endpoint: str) -> str:
        """Create the batch, whose `metadata` carries our own id; returns the upstream's."""
        answer = self._json(
            "POST",
            "/v1/batches",
            json={
                "input_file_id": input_file,
                "endpoint": endpoint,
                "completion_window": COMPLETION_WINDOW,
                "metadata": {METADATA_KEY: batch_id},
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

    def find(self, batch_id: str, input_file: str, since_seconds: float) -> str | None:
        """The upstream's id of our batch, if it has one that was created after `since_seconds` (Unix time)."""
        for batch in self._listed("/v1/batches", since_seconds):
            metadata = batch.get("metadata")
            ours = isinstance(metadata, dict) and metadata.get(METADATA_KEY) == batch_id
            if ours or (input_file and batch.get("input_file_id") == input_file):
                return _id(batch)
        return None

    def find_input_files(self, batch_id: str, since_seconds: float) -> list[str]:
        """Ids of all input files of a batch of ours: more than one, when the answer to an upload was lost."""
        files = self._listed("/v1/files", since_seconds, purpose="batch", order="desc")
        return [_id(file) for file in files if file.get("filename") == input_filename(batch_id)]

    def _listed(self, path: str, since_seconds: float, **query: str) -> Iterator[dict[str, Any]]:
        """A list, newest first, page by page, to the first item that is older."""
        after: dict[str, str] = {}
        for _ in range(LIST_PAGES):
            page = self._json("GET", path, params={"limit": 100, **query, **after})
            data = page.get("data")
            if not isinstance(data, list):  # "not in it" would mean that a batch is created once more
                raise UpstreamTrouble(f"GET {path}: the answer is no list", in_doubt=False)
            items = [item for item in data if isinstance(item, dict)]
            yield from items
            created = items[-1].get("created_at") if items else 0.0
            if not page.get("has_more") or (isinstance(created, int | float) and created < since_seconds):
                return
            if not items:
                break
            after = {"after": _id(items[-1])}
        raise UpstreamTrouble(f"GET {path}: the list does not end", in_doubt=False)

    @contextlib.contextmanager
    def content(self, file_id: str) -> Iterator[Iterator[bytes]]:
        """A file's bytes in pieces."""
        with http.call(
            "GET", f"/v1/files/{file_id}/content", headers=self._headers, deadline_seconds=TRANSFER_SECONDS
        ) as response:
            yield response.iter_content(http.PIECE_BYTES)

    def delete(self, file_id: str) -> None:
        """Delete a file; one that is gone already is deleted."""
        try:
            self._json("DELETE", f"/v1/files/{file_id}")
        except UpstreamRefused as error:
            if error.status != 404:
                raise

    def send(self, endpoint: str, body: bytes, timeout_seconds: float) -> Reply:
        """One request, synchronously; every answer but 408, 409, 429 and 5xx is final."""
        headers = {**self._headers, "Content-Type": "application/json"}
        try:
            with http.call("POST", endpoint, headers=headers, data=body, deadline_seconds=timeout_seconds) as response:
                answer = http.read(response, MOST_LINE_BYTES)
                if answer is None:  # it was paid: asking again would pay for another one
                    return error_reply(502, "The upstream's answer does not end.", code="answer_too_long")
                return Reply.of_upstream(response.status_code, http.reply_headers(response), answer)
        except UpstreamRefused as error:
            return Reply.of_upstream(error.status, error.headers, error.body)


def _id(answer: dict[str, Any]) -> str:
    if not isinstance(answer.get("id"), str):
        raise UpstreamTrouble("the upstream's answer has no id", in_doubt=True)
    return str(answer["id"])
