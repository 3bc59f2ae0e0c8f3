"""The gunicorn worker: gevent's, which sends waiting clients away when it is told to stop."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any

import gevent
from gevent.hub import get_hub
from gevent.server import StreamServer
from gunicorn.http.parser import RequestParser
from gunicorn.workers import ggevent
from gunicorn.workers.ggevent import GeventWorker

from web.incoming import IncomingRequest, refuse

if TYPE_CHECKING:  # gunicorn imports this module before it patches the standard library
    from web.waiting import Front

#: A connection that has just been opened must have sent its headers by then: a client that opens thousands in one loop
#: comes round to writing the first request after many seconds.
HEADER_SECONDS = 20.0
#: A connection that was opened just before its process is told to stop may send its request within this time: a client
#: sends no request again that a new connection has lost.
LATE_SECONDS = 1.0
#: More of them and who is connected waits for who connects.
ACCEPT_AT_ONCE = 64


class EagerServer(StreamServer):
    """gunicorn lets several processes accept one connection at a time, so that none takes them all.

    When thousands connect at once the kernel's queue runs over, and who finds it full tries again after seconds.
    """

    @property
    def max_accept(self) -> int:
        """Connections taken in one go."""
        return ACCEPT_AT_ONCE

    @max_accept.setter
    def max_accept(self, value: int) -> None:
        pass  # gunicorn's 1


class FrontWorker(GeventWorker):  # type: ignore[misc]  # gunicorn is not typed
    """gunicorn runs no hook before it waits for held clients, so the signal itself is ours."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.idle: set[Idle] = set()

    def init_process(self) -> None:
        """Requests are read, and connections accepted, by classes of ours."""
        RequestParser.mesg_class = IncomingRequest
        ggevent.StreamServer = EagerServer
        super().init_process()

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:
        """What could not be read as a request is answered in OpenAI's shape."""
        if not refuse(client, exc):
            if hasattr(req, "uri"):  # gunicorn logs it, and Google's keys may stand in a query
                req.uri = req.uri.partition("?")[0]
            super().handle_error(req, client, addr, exc)

    def handle_exit(self, sig: int, frame: Any) -> None:
        """SIGTERM: finish what is being written, hold nobody."""
        super().handle_exit(sig, frame)
        gevent.spawn(self._drain)

    def handle_quit(self, sig: int, frame: Any) -> None:
        """SIGINT and SIGQUIT, from a terminal: the same."""
        self.handle_exit(sig, frame)

    def timeout_ctx(self) -> Idle:
        """Around the reading of each request's headers."""
        return Idle(self)

    def _drain(self) -> None:
        for idle in list(self.idle):
            idle.end()
        front: Front = self.wsgi.extensions["front"]
        front.drain()


class Idle:
    """A connection between two requests, or before its first one; it is given up in time."""

    def __init__(self, worker: FrontWorker) -> None:
        self._worker = worker
        # The greenlet is the connection's: what is noted on it is there at its next request.
        greenlet: Any = gevent.getcurrent()
        first = not hasattr(greenlet, "answered")
        greenlet.answered = getattr(greenlet, "answered", None)
        self._greenlet = greenlet
        self._grace_seconds = LATE_SECONDS if first else 0.001
        seconds = HEADER_SECONDS if first else worker.cfg.keepalive
        self._timeout = gevent.Timeout(seconds if worker.alive else self._grace_seconds, False)  # type: ignore[arg-type]  # gevent's own idiom

    def __enter__(self) -> None:
        self._worker.idle.add(self)
        self._timeout.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        self._worker.idle.discard(self)
        self._timeout.close()
        if isinstance(error, ConnectionResetError):
            front: Front = self._worker.wsgi.extensions["front"]
            front.unread(self._greenlet)
        self._greenlet.answered = None
        return error is self._timeout

    def end(self) -> None:
        """Close the connection, one that has just been opened a little later."""
        gevent.spawn_later(self._grace_seconds, get_hub().loop.run_callback, self._cut)

    def _cut(self) -> None:
        """In the hub, so that nothing happens in between."""
        if self in self._worker.idle:
            self._greenlet.throw(self._timeout)
