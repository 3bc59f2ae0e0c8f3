"""HTTP/1.1 as bytes on a socket, for both ends of the tests; shares no code with the relay."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

Headers = list[tuple[bytes, bytes]]

READ_BYTES = 1 << 16


@dataclass
class Head:
    """The first line and the headers, as they came."""

    line: bytes
    headers: Headers

    def values(self, name: bytes) -> list[bytes]:
        """All values of a header."""
        return [value for key, value in self.headers if key.lower() == name]


@dataclass
class Answer:
    """What a caller got.

    Attributes:
        whole: it ended as its framing says.
        closed: nothing more can come on this connection.
    """

    head: Head
    body: bytes
    whole: bool
    closed: bool = False

    @property
    def status(self) -> int:
        return int(self.head.line.split(b" ")[1])


def read_head(stream: BinaryIO) -> Head | None:
    """The next head; None at the end of the connection, EOFError if it ends within the head."""
    line = stream.readline()
    if not line:
        return None
    headers = []
    while (row := stream.readline()) != b"\r\n":
        if not row:
            raise EOFError
        name, _, value = row.rstrip(b"\r\n").partition(b":")
        headers.append((name, value.strip(b" \t")))
    return Head(line.rstrip(b"\r\n"), headers)


def pieces(stream: BinaryIO, head: Head, *, to_the_end: bool = False) -> Iterator[bytes]:
    """The body; EOFError if it is cut."""
    if head.values(b"transfer-encoding"):
        while size := int(stream.readline().split(b";")[0] or b"x", 16):
            yield from _exactly(stream, size)
            if stream.read(2) != b"\r\n":
                raise EOFError
        while stream.readline() not in (b"\r\n", b""):
            pass
    elif lengths := head.values(b"content-length"):
        yield from _exactly(stream, int(lengths[0]))
    elif to_the_end:
        while piece := stream.read(READ_BYTES):
            yield piece


def _exactly(stream: BinaryIO, size: int) -> Iterator[bytes]:
    while size:
        piece = stream.read(min(size, READ_BYTES))
        if not piece:
            raise EOFError
        size -= len(piece)
        yield piece


class Caller:
    """One connection to the front."""

    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=30)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.stream = self.sock.makefile("rb")

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def head(self) -> Head:
        head = read_head(self.stream)
        assert head, "the connection was closed without an answer"
        return head

    def answer(self, method: bytes = b"GET") -> Answer:
        """Read the final answer."""
        head = self.head()
        while head.line.split(b" ")[1].startswith(b"1"):
            head = self.head()
        body, whole = bytearray(), True
        bodiless = method == b"HEAD" or head.line.split(b" ")[1] in (b"204", b"304")
        try:
            for piece in pieces(self.stream, head, to_the_end=True) if not bodiless else ():
                body += piece
        except (EOFError, ValueError, ConnectionResetError):
            whole = False
        return Answer(head, bytes(body), whole)

    def closed(self) -> bool:
        """Whether the front has closed the connection; waits for it."""
        with contextlib.suppress(ConnectionResetError):
            return self.stream.read(1) == b""
        return True

    def close(self) -> None:
        self.stream.close()
        self.sock.close()

    def __del__(self) -> None:
        """A failing test forgets to close."""
        self.close()


def ask(port: int, request: bytes, *, closes: bool = False) -> Answer:
    """One request on a connection of its own."""
    caller = Caller(port)
    try:
        caller.send(request)
        answer = caller.answer(request.split(b" ")[0])
        answer.closed = closes and caller.closed()
        return answer
    finally:
        caller.close()
