"""Reads a request's body in time: whoever lets it trickle keeps a place from others."""

from __future__ import annotations

import time
from typing import Final, Protocol

import gevent

from tasks.errors import BodyTooLarge, BodyTooSlow, ClientGone

#: The body may take this long, and longer for what has arrived at this rate.
GRACE_SECONDS: Final = 10.0
LEAST_BYTES_PER_SECOND: Final = 10_000
PIECE_BYTES: Final = 64 * 1024


class Readable(Protocol):
    """`wsgi.input`."""

    def read(self, size: int, /) -> bytes:
        """At most so many bytes; fewer only at the end."""


def read(source: Readable, length: int | None, limit: int, advice: str) -> bytes:
    """The whole body, read to one byte past the limit at most.

    Args:
        limit: bytes.
        advice: what is said of the limit.

    Raises:
        BodyTooLarge: it is longer.
        BodyTooSlow: it did not arrive in time.
        ClientGone: it ended too early.
    """
    too_large = BodyTooLarge(f"The body is larger than {advice}.")
    if (length or 0) > limit:
        raise too_large
    pieces: list[bytes] = []
    size = 0
    began = time.monotonic()
    while True:
        left = began + GRACE_SECONDS + size / LEAST_BYTES_PER_SECOND - time.monotonic()
        try:
            with gevent.Timeout(max(left, 0.001), BodyTooSlow("The request's body did not arrive in time.")):
                piece = source.read(min(PIECE_BYTES, limit + 1 - size))
        except OSError as error:
            raise ClientGone("the client went away before its body was complete") from error
        if not piece:
            break
        pieces.append(piece)
        size += len(piece)
        if size > limit:
            raise too_large
        if size == length:
            break
    if length is not None and size < length:
        raise ClientGone("the client went away before its body was complete")
    return b"".join(pieces)
