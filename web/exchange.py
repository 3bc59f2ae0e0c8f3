"""One relayed request: up piece by piece in a greenlet of its own, down piece by piece in the caller's.

Nothing is kept but the piece in hand: who does not read is not written to. The answer goes to the caller's socket
directly, as gunicorn's own answer would have headers of gunicorn's.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import gevent
import h11
from gevent.monkey import get_original

from tasks.errors import ClientError, ClientGone, InvalidRequest, UpstreamLost
from web.incoming import IncomingRequest, linger
from web.upstream import Connection, Upstream

Headers = list[tuple[bytes, bytes]]

#: May be sent twice (RFC 9110 §9.2.2).
IDEMPOTENT: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
#: Of one connection only (RFC 9110 §7.6.1).
HOP_BY_HOP: Final = frozenset({
    b"connection", b"keep-alive", b"proxy-connection", b"proxy-authenticate", b"proxy-authorization",
    b"te", b"trailer", b"transfer-encoding", b"upgrade",
})  # fmt: skip
ABORT_ON_CLOSE: Final = struct.pack("ii", 1, 0)
_poll: Any = get_original("select", "poll")  # gevent's knows nothing of hang-ups


def end_to_end(headers: Headers, *dropped: bytes) -> Headers:
    """Headers without those of the connection that they came by, and without some others.

    A body's length is never the connection's: `Connection: content-length` would take a request's end away.
    """
    named = {
        word.strip() for name, value in headers if name.lower() == b"connection" for word in value.lower().split(b",")
    }
    gone = (HOP_BY_HOP | named) - {b"content-length"} | set(dropped)
    return [(name, value) for name, value in headers if name.lower() not in gone]


@dataclass(kw_only=True, repr=False)  # gevent prints a greenlet that has failed, and with it whose method it runs
class Exchange:
    """A request, and what has become of it.

    Attributes:
        headers: what goes to the upstream.
        body: all of the body if it has been read before.
        draining: tells whether this process is going away, and the caller's connection with it.
        status: the upstream's, once it has answered.
        complete: the caller has all of it.
    """

    incoming: IncomingRequest
    upstream: Upstream
    target: bytes
    headers: Headers
    body: bytes | None
    draining: Callable[[], bool]
    status: int = field(init=False, default=0)
    complete: bool = field(init=False, default=False)
    _client: Any = field(init=False)
    _connection: Connection = field(init=False)
    _repeatable: bool = field(init=False)
    _uploader: gevent.Greenlet[..., Any] | None = field(init=False, default=None)
    _failure: ClientError | None = field(init=False, default=None)
    _uploaded: bool = field(init=False, default=False)
    _reading: bool = field(init=False, default=False)  # waiting for the caller, not for the upstream
    _active: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        self._client = self.incoming.unreader.sock
        self._repeatable = self.incoming.method in IDEMPOTENT and self.incoming.body.ended

    def run(self) -> None:
        """Relay it; returns when the caller has its answer, or as much of it as there was.

        Raises:
            UpstreamLost: it did not answer.
            TimeoutError: it did not connect, or answer, in time.
            OSError: it cannot be reached.
            ClientError: the body is broken.
        """
        self._connection = self.upstream.take(young=not self._repeatable)
        self._client.settimeout(self.upstream.patience)
        try:
            self._reply(self._ask())
        except ClientGone:
            self.incoming.force_close()
        finally:
            if self._uploader:
                self._uploader.kill()
            if not self._uploaded and not self.incoming.body.ended:
                self.incoming.force_close()
            self.upstream.give(self._connection)
            with contextlib.suppress(OSError):
                self._client.settimeout(None)

    def _ask(self) -> h11.Response:
        try:
            return self._send()
        except UpstreamLost:
            # It had given up a connection that we kept, before it saw the request: nobody need hear of that.
            if not self._repeatable or not self._connection.used or self._connection.heard:
                raise
        self._connection.close()
        self._connection = self.upstream.connect()
        return self._send()

    def _send(self) -> h11.Response:
        self._active = time.monotonic()
        try:
            request = h11.Request(method=self.incoming.method, target=self.target, headers=self.headers)
            self._connection.send(request)
            if self.body:
                self._connection.send(h11.Data(data=self.body))
            if not self.incoming.body.ended:
                self._uploader = gevent.spawn(self._upload, self._connection)
            else:
                self._connection.send(h11.EndOfMessage())
                self._uploaded = True
        except h11.LocalProtocolError:
            raise InvalidRequest("The headers are malformed.") from None
        except (BrokenPipeError, ConnectionResetError):
            pass  # it may have answered before it closed
        while isinstance(event := self._event(), h11.InformationalResponse):
            self._inform(event)
        if not isinstance(event, h11.Response):
            raise UpstreamLost("it switched protocols")
        return event

    def _upload(self, connection: Connection) -> None:
        """The greenlet of the way up."""
        body = self.incoming.body
        body.invitation_due = False  # the upstream invites
        try:
            while True:
                self._reading = True
                piece = body.piece()
                self._reading = False
                self._active = time.monotonic()
                if not piece:
                    break
                connection.send(h11.Data(data=piece))
                self._active = time.monotonic()
            connection.send(h11.EndOfMessage())
            self._uploaded = True
        except ClientError as error:
            self._failure = error
            connection.abort()
        except (OSError, h11.ProtocolError):
            pass  # the upstream takes no more: its answer, or its end, says why

    def _event(self) -> object:
        try:
            event = self._connection.event(self._tick)
        except TimeoutError:
            raise
        except (OSError, h11.ProtocolError) as error:
            raise self._failure or UpstreamLost("it did not speak HTTP to the end") from error
        self._active = time.monotonic()
        if isinstance(event, h11.ConnectionClosed):
            raise self._failure or UpstreamLost("it closed the connection")
        return event

    def _tick(self) -> None:
        poll = _poll()
        poll.register(self._client.fileno(), getattr(select, "POLLRDHUP", 0))
        if poll.poll(0):
            raise ClientGone("the client went away")
        if not self._reading and time.monotonic() - self._active > self.upstream.patience:
            raise TimeoutError

    def _inform(self, event: h11.InformationalResponse) -> None:
        """100 to who waits for it, 102 and 103 to everybody whose HTTP has them."""
        if event.status_code == 101:
            raise UpstreamLost("it switched protocols")
        if self.incoming.version >= (1, 1) and (event.status_code != 100 or self._expects()):
            self._write(head(event, end_to_end(event.headers.raw_items())))

    def _expects(self) -> bool:
        return any(name.lower() == b"expect" for name, _ in self.headers)

    def _reply(self, answer: h11.Response) -> None:
        bodiless = self.incoming.method == "HEAD" or answer.status_code in (204, 304)
        names = {name for name, _ in answer.headers}
        measured = b"content-length" in names and b"transfer-encoding" not in names
        chunked = not bodiless and not measured and self.incoming.version >= (1, 1)
        until_close = not bodiless and not measured and not chunked
        if until_close or self.draining() or not self._uploaded:
            self.incoming.force_close()
        headers = end_to_end(answer.headers.raw_items(), *([] if measured or bodiless else [b"content-length"]))
        if chunked:
            headers.append((b"Transfer-Encoding", b"chunked"))
        if self.incoming.should_close():
            headers.append((b"Connection", b"close"))
        elif self.incoming.version < (1, 1):
            headers.append((b"Connection", b"keep-alive"))
        self._write(head(answer, headers))
        self.status = answer.status_code
        try:
            while isinstance(event := self._event(), h11.Data):
                self._write(b"%x\r\n%b\r\n" % (len(event.data), event.data) if chunked else event.data)
        except (UpstreamLost, TimeoutError, ClientError):
            self._cut(until_close)
            return
        if chunked:
            self._write(b"0\r\n\r\n")
        self.complete = True
        if not self._uploaded:
            if self._uploader:
                self._uploader.kill()  # else two greenlets would read the same socket
            linger(self._client)

    def _cut(self, until_close: bool) -> None:
        """End the caller's connection so that it cannot take it for the end of the answer."""
        self.incoming.force_close()
        if until_close:
            with contextlib.suppress(OSError):
                self._client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT_ON_CLOSE)

    def _write(self, data: bytes | bytearray) -> None:
        try:
            self._client.sendall(data)
        except OSError:
            raise ClientGone("the client went away") from None
        self._active = time.monotonic()  # a caller that reads slowly is not the upstream's silence


def head(answer: h11.Response | h11.InformationalResponse, headers: Headers) -> bytes:
    """Status line and headers."""
    lines = [b"HTTP/1.1 %d %b" % (answer.status_code, answer.reason), *(b"%b: %b" % pair for pair in headers)]
    return b"\r\n".join(lines) + b"\r\n\r\n"
