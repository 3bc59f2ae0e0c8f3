"""Google's file transport: the resumable upload, native downloads. Gemini's own API and its OpenAI layer share it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import IO, Any, Final
from urllib.parse import urlsplit

import requests

from tasks.batches import Batch
from tasks.errors import UpstreamTrouble
from tasks.providers import http
from tasks.providers.account import LIST_PAGES, TRANSFER_SECONDS, call_seconds

#: Of the native API beside the OpenAI layer.
VERSION: Final = "/v1beta"
#: What Google answers about a file that is not there: it does not tell it from somebody else's.
GONE: Final = frozenset({403, 404})
MIME: Final = "jsonl"
#: What an answer with an empty list may have.
BESIDE: Final = frozenset({"nextPageToken", "unreachable"})


def key_headers(headers: dict[str, str]) -> dict[str, str]:
    """The native API's headers for a key that came in whichever way."""
    bearer = headers.get("Authorization", "")
    if bearer.lower().startswith("bearer "):
        return {"x-goog-api-key": bearer[7:].strip()}
    return {name: value for name, value in headers.items() if name == "x-goog-api-key"}


class Files:
    """The files of one key."""

    tail = b""

    def __init__(self, base: str, headers: dict[str, str], version: str) -> None:
        self._base = base
        self._version = version
        self._headers = key_headers(headers)

    def head(self, batch: Batch) -> bytes:
        """A file goes up as it is."""
        return b""

    def upload(self, form: IO[bytes], batch: Batch) -> str:
        """Upload the lines under our id; returns the file's name."""
        size = form.seek(0, os.SEEK_END)
        form.seek(0)
        start = {
            **self._headers,
            "X-Goog-Upload-Protocol": "resumable",
            "X-Goog-Upload-Command": "start",
            "X-Goog-Upload-Header-Content-Length": str(size),
            "X-Goog-Upload-Header-Content-Type": MIME,
        }
        about = {"file": {"displayName": display_name(batch), "mimeType": MIME}}
        with self._call("POST", f"/upload{self._version}/files", headers=start, json=about) as response:
            url = response.headers.get("X-Goog-Upload-URL", "")
        if urlsplit(url)[:2] != urlsplit(self._base)[:2]:
            raise UpstreamTrouble("the upload was given no address of this provider", in_doubt=False)
        finish = {"X-Goog-Upload-Offset": "0", "X-Goog-Upload-Command": "upload, finalize"}
        # The address is a key of its own: ours is not sent, and errors do not name it.
        with http.call("POST", "", base=url, headers=finish, data=form, deadline_seconds=TRANSFER_SECONDS) as response:
            file = http.json_object(response, "the upload").get("file")
        return http.text(file if isinstance(file, dict) else {}, "name")

    def of(self, batch: Batch) -> list[str]:
        """Names of all files that carry the batch's."""
        files = pages(self._call, f"{self._version}/files", "files")
        return [http.text(file, "name") for file in files if file.get("displayName") == display_name(batch)]

    @contextlib.contextmanager
    def content(self, file_id: str) -> Iterator[Iterator[bytes]]:
        """A file's bytes in pieces."""
        path = f"/download{self._version}/{file_id}:download?alt=media"
        with self._call("GET", path, deadline_seconds=TRANSFER_SECONDS) as response:
            yield response.iter_content(http.PIECE_BYTES)

    def delete(self, file_id: str) -> None:
        """Delete a file; one that is gone already is deleted."""
        http.delete(self._call("DELETE", f"{self._version}/{file_id}"), gone=GONE)

    def _call(self, method: str, path: str, **options: Any) -> contextlib.AbstractContextManager[requests.Response]:
        options = {"headers": self._headers, "deadline_seconds": call_seconds(), **options}
        return http.call(method, path, base=self._base, **options)


def display_name(batch: Batch) -> str:
    """What our files and batches are called there."""
    return f"llm-proxy-{batch.id}"


def pages(call: Any, path: str, name: str) -> Iterator[dict[str, Any]]:
    """A list of Google's to its end: it promises no order."""
    token: dict[str, str] = {}
    for _ in range(LIST_PAGES):
        with call("GET", path, params={"pageSize": 100, **token}) as response:
            page = http.json_object(response, f"GET {path}")
        if name not in page and page.keys() <= BESIDE:  # Google leaves out what is empty
            page[name] = []
        yield from http.items(page, name, f"GET {path}")
        if not page.get("nextPageToken"):
            return
        token = {"pageToken": str(page["nextPageToken"])}
    raise UpstreamTrouble(f"GET {path}: the list does not end", in_doubt=False)
