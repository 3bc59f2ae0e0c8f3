"""What the stages ask of an upstream, whatever dialect it speaks.

A batch is told of in OpenAI's words (a dictionary like its batch object, with its status strings), as are result
lines: each dialect translates its own into these, and the stages know no other.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import IO, Any, Final, Protocol

from tasks.batches import Batch
from tasks.jsonl import ResultLine
from tasks.models import Reply

TERMINAL: Final = frozenset({"completed", "failed", "expired", "cancelled"})
RUNNING: Final = frozenset({"validating", "in_progress", "finalizing", "cancelling"})


class Upstream(Protocol):
    """One provider as one group of requests sees it.

    What is written for a batch is `head`, each line with `separator` between them, and `tail`.

    Attributes:
        uploads: the lines go up as a file before "create"; else "create" carries them.
        splits: a request may become several lines, one for each of its inputs, and has as many answers.
        doubt_seconds: how long after a "create" was sent it may still take effect.
    """

    uploads: bool
    separator: bytes
    tail: bytes

    @property
    def splits(self) -> bool: ...

    @property
    def doubt_seconds(self) -> float: ...

    def head(self, batch: Batch) -> bytes:
        """What precedes the lines."""

    def line(self, request_id: str, body: bytes) -> bytes:
        """A request as it is written for a batch; the body's bytes are the caller's."""

    def upload(self, form: IO[bytes], batch: Batch) -> str:
        """Upload what was written, under a name with our id; returns the file's."""

    def create(self, batch: Batch, form: IO[bytes]) -> str:
        """Create the batch, marked with our own id where that is possible; returns the upstream's.

        Args:
            form: what was written, if it is not uploaded.
        """

    def retrieve(self, upstream_id: str) -> dict[str, Any]:
        """The batch as it is now."""

    def cancel(self, upstream_id: str) -> object:
        """Ask the upstream to stop the batch."""

    def find(self, batch: Batch) -> str | None:
        """The upstream's id of our batch, if it has one.

        Raises:
            UpstreamTrouble: it cannot be told yet.
        """

    def find_input_files(self, batch: Batch) -> list[str]:
        """Ids of all input files of a batch of ours: more than one, when the answer to an upload was lost."""

    def content(self, file_id: str) -> AbstractContextManager[Iterator[bytes]]:
        """A result file's bytes in pieces."""

    def parse(self, text: bytes) -> ResultLine | None:
        """A line of a result file; None when the rest of its answer stands in another line.

        Raises:
            ValueError: it is no result line.
        """

    def delete(self, file_id: str) -> None:
        """Delete a file; one that is gone already is deleted."""

    def flex(self, body: bytes) -> bytes | None:
        """The body that asks for half the price synchronously; None where that is not to be had."""

    def send(self, body: bytes, timeout_seconds: float) -> Reply:
        """One request, synchronously; every answer but 408, 409, 429 and 5xx is final."""
