"""Connections to the upstream: made, kept for the next request, and read with an eye on the caller.

On h11, which frames HTTP/1.1 and does nothing else: it keeps the headers' order and spelling and decodes nothing.
"""

from __future__ import annotations

import contextlib
import functools
import socket
import ssl
import time
from collections import deque
from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

import gevent
import h11
from gevent.socket import wait_read

CONNECT_SECONDS: Final = 10.0
#: How often somebody who waits for the upstream looks at the caller.
TICK_SECONDS: Final = 1.0
PIECE_BYTES: Final = 64 * 1024
MAX_HEAD_BYTES: Final = 256 * 1024
IDLE_CONNECTIONS: Final = 32
#: Beyond this an idle connection is not worth trying.
IDLE_SECONDS: Final = 50.0
#: A server closes idle connections at a time of its own. Until here none does, so that what must not be sent twice
#: does not meet a connection that is just being closed.
YOUNG_SECONDS: Final = 1.0


class Connection:
    """One connection, for one request at a time.

    Attributes:
        used: it has carried a request before this one.
        heard: the upstream has said something since the present request was sent.
    """

    def __init__(self, sock: socket.socket, patience: float) -> None:
        self._sock = sock
        self._patience = patience
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD_BYTES)
        self._broken = False
        sock.settimeout(patience)
        self.used = False
        self.heard = False
        self.idle_since = 0.0

    def send(self, event: h11.Event) -> None:
        """Send a part of the request; waits while the upstream does not take it."""
        data = self._http.send(event)
        self._broken, before = True, self._broken  # until all of it is out
        self._sock.sendall(data or b"")
        self._broken = before

    def event(self, tick: Callable[[], None]) -> object:
        """The next part of the answer.

        Args:
            tick: called every second while there is none; it ends the waiting by raising.
        """
        while (event := self._http.next_event()) is h11.NEED_DATA:
            while (data := self._receive()) is None:
                try:
                    wait_read(self._sock.fileno(), TICK_SECONDS)
                except TimeoutError:
                    tick()
            self.heard = self.heard or bool(data)
            self._http.receive_data(data)
        return event

    def _receive(self) -> bytes | None:
        """What is there now, b"" at the end, None if there is nothing yet: what TLS has to read may hold no data."""
        self._sock.settimeout(0)
        try:
            return self._sock.recv(PIECE_BYTES)
        except (BlockingIOError, ssl.SSLWantReadError):
            return None
        finally:
            self._sock.settimeout(self._patience)

    def alive(self) -> bool:
        """Idle and open; anything that can be read means closed, or out of step."""
        try:
            return self._receive() is None
        except OSError:
            return False

    def recycle(self) -> bool:
        """Make ready for another request, if the last one has ended as it should."""
        if self._broken or self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            return False
        if self._http.trailing_data[0]:
            return False
        self._http.start_next_cycle()
        self.used, self.heard, self.idle_since = True, False, time.monotonic()
        return True

    def abort(self) -> None:
        """Break it off from another greenlet; whoever reads it sees its end."""
        self._broken = True
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self._sock, socket.SHUT_RDWR)  # not TLS's: that one says goodbye in order

    def close(self) -> None:
        """Close it, in the middle of whatever it is."""
        self._sock.close()


@functools.cache
def _trusting() -> ssl.SSLContext:
    """The machine's certificate authorities, read once: that takes 40 ms, and there are ten providers."""
    return ssl.create_default_context()


class Upstream:
    """An upstream and this process's idle connections to it.

    Attributes:
        path: of its base URL, to be put before what is asked for.
        patience: longest silence, in seconds.
    """

    def __init__(self, url: str, patience: float) -> None:
        parts = urlsplit(url)
        self.path = parts.path
        tls = parts.scheme == "https"
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if tls else 80)
        self._tls = _trusting() if tls else None
        self._idle: deque[Connection] = deque()
        self.patience = patience
        name = f"[{self._host}]" if ":" in self._host else self._host
        self.authority = (name if self._port == (443 if tls else 80) else f"{name}:{self._port}").encode()

    def take(self, *, young: bool) -> Connection:
        """An idle connection, or a new one.

        Args:
            young: only one that cannot have been given up by the upstream.
        """
        most = YOUNG_SECONDS if young else IDLE_SECONDS
        while self._idle and time.monotonic() - self._idle[-1].idle_since < most:
            connection = self._idle.pop()
            if connection.alive():
                return connection
            connection.close()
        return self.connect()

    def give(self, connection: Connection) -> None:
        """Keep a connection for the next request, or close it."""
        while self._idle and time.monotonic() - self._idle[0].idle_since > IDLE_SECONDS:
            self._idle.popleft().close()
        if len(self._idle) < IDLE_CONNECTIONS and connection.recycle():
            self._idle.append(connection)
        else:
            connection.close()

    def connect(self) -> Connection:
        """A new connection.

        Raises:
            TimeoutError: not within 10 seconds, name and TLS included.
            OSError: not at all.
        """
        with gevent.Timeout(min(CONNECT_SECONDS, self.patience), TimeoutError), contextlib.ExitStack() as failed:
            sock = failed.enter_context(socket.create_connection((self._host, self._port)))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls:
                sock = self._tls.wrap_socket(sock, server_hostname=self._host)
            failed.pop_all()
            return Connection(sock, self.patience)
