"""The response of a held client: nothing until its reply is there, or signs of life and then the body.

Until the first sign of life the true status is free. Then it is 200, and a late failure breaks the
connection off, so that no 200 is a lie; an SDK comes again and gets the true status. An event stream
tells the failure in an event.
"""

from __future__ import annotations

import errno
import random
import socket
import struct
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final

from flask import Response

from tasks.errors import ClientGone, ClientTooHasty, LlmProxyError
from tasks.models import Reply
from web import access_log, errors, replies, shapes, sockets, sse
from web.clients import Patience
from web.waiting import Held

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

#: Space is what JSON allows before a value.
SPACE: Final = b" "
#: Clients that came together need not all be sent a byte in the same instant.
SPREAD: Final = (0.85, 1.0)
#: Who has given up meets its answer with a reset, at once or in the middle of reading it. Balancers reset connections,
#: too, when they have idled.
RESET_SECONDS: Final = 2.0
SLOW_BYTES_PER_SECOND: Final = 100_000
HASTY: Final = (
    "The batch is not done, and this version of the SDK gives up after its `timeout` (10 minutes by default) whatever"
    " it is sent. Your request goes on: send it again and it finds its answer. To wait longer, pass a `timeout` with"
    " the call: see 'When your client waits' in the README of llm-proxy."
)


class Answer(Response):
    """Flask's part is over when the request is accepted; waiting needs no Flask, and keeps nothing of it."""

    def __init__(
        self, held: Held, patience: Patience, *, dialect: str, endpoint: str, lane: str, stream: bool, usage: bool
    ) -> None:
        super().__init__()
        self._held = held
        self._dialect = dialect
        self._patience = patience
        self._endpoint = endpoint
        self._lane = lane
        self._stream = stream and endpoint in sse.STREAMS
        self._usage = usage
        self._began = time.monotonic()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """The body, once there is something to say."""
        return self._pieces(environ, start_response)

    def _pieces(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
        held, sock = self._held, environ.get("gunicorn.socket")
        environ[access_log.TASK] = held.task_id
        delivered: int | None = None
        reply: Reply | None = None
        went_away = False
        begun = False
        try:
            if sock is not None:
                held.watch(sock)
            try:
                due = self._began + self._patience.first_seconds * _spread()
                while (reply := held.wait(due)) is None:
                    if time.monotonic() < due:
                        continue
                    if self._patience.hasty:
                        raise ClientTooHasty(HASTY)
                    if not begun:
                        start_response("200 OK", self._early_headers())
                        begun = True
                        held.keep_alive()
                    yield sse.ping(self._dialect) if self._stream else SPACE
                    due = time.monotonic() + self._patience.next_seconds * _spread()
                with held.being_answered():
                    if sock is not None and sockets.gone(sock):
                        raise ClientGone("the client went away")
                    yield from self._tell(self._response(reply), environ, start_response, begun=begun)
                    delivered = reply.status  # all of it has been written
            except ClientGone as error:
                went_away = True
                raise BrokenPipeError(errno.EPIPE, "the client went away") from error
            except LlmProxyError as error:
                yield from self._tell(errors.to_response(error), environ, start_response, begun=begun)
        except GeneratorExit:  # writing failed
            went_away = True
            raise
        finally:
            held.depart(delivered, went_away=went_away, unread_seconds=self._unread_seconds(reply))

    def _tell(
        self, response: Response, environ: WSGIEnvironment, start_response: StartResponse, *, begun: bool
    ) -> Iterator[bytes]:
        body = shapes.shape(response, self._dialect).get_data()
        if begun:
            environ[access_log.LATE] = response
        if not begun:
            start_response(response.status, response.get_wsgi_headers(environ).to_wsgi_list())
            yield body
        elif 200 <= response.status_code < 300:
            told = response.mimetype == "text/event-stream" or not self._stream
            yield body if told else b"data: " + body + b"\n\n" + sse.DONE
        elif self._stream:
            yield sse.error(body, self._dialect)
        else:
            _cut(environ)

    def _unread_seconds(self, reply: Reply | None) -> float:
        """For how long after its last byte a reset says that an answer was not read.

        SDKs close a stream at its last event, before the connection's own end has been read: a reset says nothing then.
        """
        if self._stream or reply is None:
            return 0.0
        return RESET_SECONDS + len(reply.body) / SLOW_BYTES_PER_SECOND

    def _response(self, reply: Reply) -> Response:
        if self._stream:
            reply = replies.streamed(reply, self._endpoint, include_usage=self._usage)
        waited_ms = int((time.monotonic() - self._began) * 1000)
        return replies.to_response(reply, task_id=self._held.task_id, lane=self._lane, waited_ms=waited_ms)

    def _early_headers(self) -> list[tuple[str, str]]:
        return [
            ("content-type", "text/event-stream; charset=utf-8" if self._stream else "application/json"),
            ("cache-control", "no-store"),
            ("x-accel-buffering", "no"),  # nginx would collect the signs of life
            ("x-batch-task-id", self._held.task_id),
            ("x-batch-lane", self._lane),
        ]


def _spread() -> float:
    return random.uniform(*SPREAD)  # noqa: S311 - no secret  # nosec B311


def _cut(environ: dict[str, Any]) -> None:
    """Break the connection off without the last chunk.

    Raises:
        BrokenPipeError: always; gunicorn closes the connection and says nothing.
    """
    sock = environ.get("gunicorn.socket")
    if environ.get("SERVER_PROTOCOL") != "HTTP/1.1" and isinstance(sock, socket.socket):
        # A body without chunks ends with the connection: only a reset shows that it is not complete.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    raise BrokenPipeError(errno.EPIPE, "the status cannot be told any more")
