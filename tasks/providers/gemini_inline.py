"""Gemini's batches without files: "create" carries the requests, the operation their answers. For up to 20 MB.

Two calls less for each batch, and nothing to delete but the batch; but no file that could be taken away to make a late
"create" fail. So it is the operator's choice: `inline = true` in the providers file.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import IO, Any, Final

import msgspec

from tasks.batches import Batch
from tasks.errors import UpstreamTrouble
from tasks.providers import gemini, google, http
from tasks.providers.gemini import Gemini

CREATE_SECONDS = 120.0
#: After the end of such a call nothing comes of it any more.
SETTLING_SECONDS = 60.0
TRANSFER_SECONDS: Final = 600.0
#: Of an operation with its answers, which are read at once.
MOST_BYTES = 400_000_000


class _Key(msgspec.Struct):
    key: str = ""


class _Item(msgspec.Struct):
    metadata: _Key = msgspec.field(default_factory=_Key)
    response: msgspec.Raw = msgspec.Raw(b"null")
    error: msgspec.Raw = msgspec.Raw(b"null")


class _Items(msgspec.Struct, rename="camel"):
    inlined_responses: list[_Item] = []


class _Output(msgspec.Struct, rename="camel"):
    inlined_responses: _Items = msgspec.field(default_factory=_Items)
    inlined_embed_content_responses: _Items = msgspec.field(default_factory=_Items)


class _About(msgspec.Struct):
    output: _Output = msgspec.field(default_factory=_Output)


class _Operation(msgspec.Struct):
    metadata: _About = msgspec.field(default_factory=_About)


_operations = msgspec.json.Decoder(_Operation)


class GeminiInline(Gemini):
    """The upstream as one group of requests sees it."""

    uploads = False
    separator = b",\n"
    tail = b"]}}}}"

    @property
    def doubt_seconds(self) -> float:
        """A "create" may have been under way for as long as it may take."""
        return CREATE_SECONDS + SETTLING_SECONDS

    def head(self, batch: Batch) -> bytes:
        """The beginning of the body of "create"."""
        name = google.display_name(batch).encode()
        return b'{"batch":{"displayName":"%s","inputConfig":{"requests":{"requests":[' % name

    def line(self, request_id: str, body: bytes) -> bytes:
        """One of its requests, or one for each embedding."""
        parts = gemini.parts(self._group.endpoint, request_id, body)
        return self.separator.join(
            b'{"request":%s,"metadata":{"key":"%s"}}' % (one, key.encode()) for key, one in parts
        )

    def create(self, batch: Batch, form: IO[bytes]) -> str:
        """Create the batch under our id; returns the operation's name."""
        headers = {"Content-Type": "application/json"}
        answer = self._account.json("POST", self._creation, headers=headers, data=form, deadline_seconds=CREATE_SECONDS)
        return http.text(answer, "name")

    def retrieve(self, upstream_id: str) -> dict[str, Any]:
        """The batch as it is now; its own name stands for its results."""
        operation = self._account.json("GET", f"/{upstream_id}", most=MOST_BYTES, deadline_seconds=TRANSFER_SECONDS)
        return gemini.read(operation, output=upstream_id if _has_results(operation) else "")

    def find_input_files(self, batch: Batch) -> list[str]:
        """There are none."""
        return []

    @contextlib.contextmanager
    def content(self, file_id: str) -> Iterator[Iterator[bytes]]:
        """The answers in the operation, as the lines that a file would have."""
        self._forget()
        with self._account.call("GET", f"/{file_id}", deadline_seconds=TRANSFER_SECONDS) as response:
            text = http.read(response, MOST_BYTES)
        try:
            output = _operations.decode(text or b"").metadata.output
        except (ValueError, RecursionError):
            raise UpstreamTrouble("the operation cannot be read", in_doubt=False) from None
        items = output.inlined_responses.inlined_responses or output.inlined_embed_content_responses.inlined_responses
        yield (_line(item) for item in items)

    def delete(self, file_id: str) -> None:
        """Delete the batch, and with it the upstream's copies of prompts and answers."""
        http.delete(self._account.call("DELETE", f"/{file_id}"), gone=google.GONE)


def _line(item: _Item) -> bytes:
    name, value = ("response", item.response) if bytes(item.error) == b"null" else ("error", item.error)
    text = msgspec.json.format(bytes(value), indent=-1)  # on one line, whatever the operation looked like
    return b'{"key":"%s","%s":%s}\n' % (item.metadata.key.encode(), name.encode(), text)


def _has_results(operation: dict[str, Any]) -> bool:
    about = operation.get("metadata")
    output = about.get("output") if isinstance(about, dict) else None
    return isinstance(output, dict) and any(name.startswith("inlined") for name in output)
