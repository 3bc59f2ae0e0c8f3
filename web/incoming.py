"""A caller's request as it came: gunicorn's, with the head's own bytes and the body piece by piece.

WSGI joins repeated headers, changes their spelling and drops names with `_`; the relay must keep them. What is
ambiguous, so that two servers could disagree about where a request ends, is refused here, in OpenAI's shape.
"""

from __future__ import annotations

import io
import sys
from typing import Any, Final

import msgspec
from gunicorn.http import errors as broken
from gunicorn.http.body import ChunkedReader
from gunicorn.http.message import Request
from gunicorn.util import close_graceful

from tasks.errors import ClientError, InvalidRequest

PIECE_BYTES: Final = 256 * 1024
LINGER_SECONDS: Final = 2.0
#: A server that takes `_` for `-` would believe these.
LOOKALIKES: Final = frozenset({b"content_length", b"transfer_encoding"})
REFUSALS: Final = {
    broken.LimitRequestLine: (414, "URI Too Long", "The request line is too long."),
    broken.LimitRequestHeaders: (431, "Request Header Fields Too Large", "The headers are too many or too long."),
    broken.ExpectationFailed: (417, "Expectation Failed", "The only expectation that can be met is 100-continue."),
    broken.UnsupportedTransferCoding: (501, "Not Implemented", "The only transfer coding taken is chunked."),
    broken.InvalidRequestLine: (400, "Bad Request", "The request line is malformed."),
    broken.InvalidRequestMethod: (400, "Bad Request", "The request method is malformed."),
    broken.InvalidHTTPVersion: (400, "Bad Request", "The HTTP version is not 1.0 or 1.1."),
    broken.ObsoleteFolding: (400, "Bad Request", "A header is folded over several lines."),
}
OTHERWISE: Final = (400, "Bad Request", "The headers are malformed or ambiguous.")


class IncomingRequest(Request):  # type: ignore[misc]  # gunicorn is not typed
    """One request of a connection.

    Attributes:
        raw_headers: names and values as they were sent, in order.
        body: an `IncomingBody`; also found as `wsgi.input`, which is how the relay gets here.
    """

    body: Any
    _expected_100_continue: bool

    def __init__(self, cfg: Any, unreader: Any, peer_addr: Any, req_number: int = 1) -> None:
        self.raw_headers: list[tuple[bytes, bytes]] = []
        unreader.max_body_chunk = PIECE_BYTES
        super().__init__(cfg, unreader, peer_addr, req_number)
        # gunicorn would say "100 Continue" before anybody has looked at the request.
        self.body.invitation_due = self._expected_100_continue and not self.body.ended
        self._expected_100_continue = False

    def parse_headers(self, data: bytes, from_trailer: bool = False) -> Any:
        """gunicorn's list, which has the names in capitals; ours beside it."""
        headers = super().parse_headers(data, from_trailer)
        if not from_trailer:
            pairs = (line.split(b":", 1) for line in data.split(b"\r\n"))
            self.raw_headers = [(name, value.strip(b" \t")) for name, value in pairs]
            if any(name.lower() in LOOKALIKES for name, _ in self.raw_headers):
                raise broken.InvalidHeaderName("framing")
        return headers

    def set_body_reader(self) -> None:
        """gunicorn's checks of the framing, and no coding but one."""
        super().set_body_reader()
        codings = [value.lower() for name, value in self.raw_headers if name.lower() == b"transfer-encoding"]
        if codings and codings != [b"chunked"]:
            raise broken.UnsupportedTransferCoding("other than chunked")
        self.body = IncomingBody(self, self.body.reader)

    def should_close(self) -> bool:
        """Also when nobody knows whether a body follows, or where it ends."""
        return self.body.invitation_due or self.body.failed or bool(super().should_close())


class IncomingBody:
    """The body as it comes.

    Attributes:
        ended: all of it has been read.
        failed: reading was broken off, so the next request's beginning is unknown.
        invitation_due: the caller waits for "100 Continue" before it sends anything.
    """

    def __init__(self, request: IncomingRequest, reader: Any) -> None:
        self.request = request
        self._reader = reader
        self._chunked = isinstance(reader, ChunkedReader)
        self._rest = io.BytesIO()
        self.ended = not self._chunked and reader.length == 0
        self.failed = False
        self.invitation_due = False

    def piece(self) -> bytes:
        """What has come in, at least a byte; nothing at the end.

        Raises:
            InvalidRequest: the framing is broken, the caller is gone, or it has been silent for too long.
        """
        if rest := self._rest.read():
            return rest
        if self.ended:
            return b""
        self.failed = True  # unless what follows succeeds; a greenlet that is killed here leaves it so
        try:
            if self.invitation_due:
                self.invitation_due = False
                self.request.unreader.sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            piece = self._from_chunks() if self._chunked else self._from_length()
        except (broken.ParseException, broken.NoMoreData, OSError):
            raise InvalidRequest("The body is malformed, or ended before its end.") from None
        self.failed = False
        return piece

    def _from_chunks(self) -> bytes:
        for piece in self._reader.parser:
            if piece:
                return bytes(piece)
        self.ended = True
        return b""

    def _from_length(self) -> bytes:
        unreader = self.request.unreader
        data: bytes = unreader.read(None, read_ahead=self._reader.length)
        if not data:
            raise broken.NoMoreData
        piece, surplus = data[: self._reader.length], data[self._reader.length :]
        unreader.unread(surplus)
        self._reader.length -= len(piece)
        self.ended = self._reader.length == 0
        return piece

    def read(self, size: int | None = None) -> bytes:
        """WSGI's `read`: as many bytes as asked for, fewer only at the end."""
        parts: list[bytes] = []
        missing = sys.maxsize if size is None or size < 0 else size
        while missing:
            if part := self._rest.read(missing):
                parts.append(part)
                missing -= len(part)
            elif piece := self.piece():
                self._rest = io.BytesIO(piece)
            else:
                break
        return b"".join(parts)


def refuse(client: Any, error: BaseException) -> bool:
    """Answer a request that could not be read; False if it is not the caller's fault.

    gunicorn's own answer is a page of HTML, and its log line quotes the header, which may be a key.
    """
    if isinstance(error, ClientError):
        return True  # what was left of a body that had its answer already
    if not isinstance(error, broken.ParseException) or isinstance(error, broken.ConfigurationProblem):
        return False
    status, reason, message = REFUSALS.get(type(error), OTHERWISE)
    body = msgspec.json.encode(
        {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": "malformed_request"}}
    )
    head = f"HTTP/1.1 {status} {reason}\r\nConnection: close\r\nContent-Type: application/json\r\n"
    try:
        client.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    except OSError:
        return True
    linger(client)
    return True


def linger(client: Any) -> None:
    """Close a connection whose peer may still be sending, so that it gets to read the answer."""
    close_graceful(client, timeout=LINGER_SECONDS, max_drain=sys.maxsize)
