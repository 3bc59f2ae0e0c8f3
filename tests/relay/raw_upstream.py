"""An upstream on bare sockets: it remembers every byte of a request and answers what the test says, broken or not."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from tests.relay.wire import Head, pieces, read_head

OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


@dataclass
class Call:
    """One request.

    Attributes:
        connection: the number of the connection that it came by.
        body: what has been read of it.
        gone: set when the front closes the connection.
    """

    head: Head
    connection: int
    sock: socket.socket
    stream: BinaryIO
    body: bytes = b""
    gone: threading.Event = field(default_factory=threading.Event)

    def pieces(self) -> Iterator[bytes]:
        """The body as it comes; not kept."""
        return pieces(self.stream, self.head)

    def read(self) -> bytes:
        """All of the body."""
        self.body = b"".join(self.pieces())
        return self.body

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def reset(self) -> None:
        """Cut the connection with a TCP reset."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        os.close(self.sock.detach())  # the stream would keep it open

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)

    def wait_for_end(self) -> None:
        """Read until the front closes."""
        with contextlib.suppress(OSError):
            while self.stream.read(1):
                pass
        self.gone.set()


def plain(call: Call) -> None:
    """Read everything and answer 200."""
    call.read()
    call.send(OK)


class RawUpstream:
    """Listens on a free port; each connection has a thread.

    Attributes:
        handler: answers a call; afterwards the connection takes the next request.
    """

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.handler: Callable[[Call], None] = plain
        self.calls: list[Call] = []
        self.arrived = threading.Condition()
        self._connections = 0
        self._resets = 0
        self._open: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._connections += 1
                arguments = sock, self._connections, self._resets
                threading.Thread(target=self._serve, args=arguments, daemon=True).start()

    def prepare(self, sock: socket.socket) -> socket.socket:
        """What comes before HTTP: nothing."""
        return sock

    def _serve(self, plain: socket.socket, number: int, resets: int) -> None:
        try:
            sock = self.prepare(plain)
        except OSError:
            plain.close()
            return
        stream = sock.makefile("rb")
        with self.arrived:
            if resets == self._resets:
                self._open.add(sock)
        with sock, stream, contextlib.suppress(OSError, EOFError, ValueError):
            while head := read_head(stream):
                call = Call(head, number, sock, stream)
                with self.arrived:
                    if sock not in self._open:  # a connection of the test before
                        return
                    self.calls.append(call)
                    self.arrived.notify_all()
                self.handler(call)
        with self.arrived:
            self._open.discard(sock)

    def call(self, number: int = 0, seconds: float = 20) -> Call:
        """A call by its number, waited for."""
        with self.arrived:
            assert self.arrived.wait_for(lambda: len(self.calls) > number, seconds), "the upstream was not asked"
            return self.calls[number]

    def reset(self) -> None:
        """Forget everything, connections included, also those that wait to be accepted."""
        # Connections are accepted in the order in which they came: when this one is, all of the test before are.
        with (
            socket.create_connection(("127.0.0.1", self.port), timeout=20) as last,
            contextlib.suppress(ConnectionError),
        ):
            last.shutdown(socket.SHUT_WR)
            last.recv(1)
        with self.arrived:
            self._resets += 1
            self.handler = plain
            self.calls.clear()
            forgotten, self._open = self._open, set()
        for sock in forgotten:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._listener.close()
