"""The gunicorn worker: gevent's, which sends waiting clients away when it is told to stop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gevent
from gunicorn.http.parser import RequestParser
from gunicorn.workers.ggevent import GeventWorker

from web.incoming import IncomingRequest, refuse

if TYPE_CHECKING:  # gunicorn imports this module before it patches the standard library
    from web.waiting import Front


class FrontWorker(GeventWorker):  # type: ignore[misc]  # gunicorn is not typed
    """gunicorn runs no hook before it waits for held clients, so the signal itself is ours."""

    def init_process(self) -> None:
        """Requests are read by a class of ours."""
        RequestParser.mesg_class = IncomingRequest
        super().init_process()

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:
        """What could not be read as a request is answered in OpenAI's shape."""
        if not refuse(client, exc):
            super().handle_error(req, client, addr, exc)

    def handle_exit(self, sig: int, frame: Any) -> None:
        """SIGTERM: finish what is being written, hold nobody."""
        super().handle_exit(sig, frame)
        front: Front = self.wsgi.extensions["front"]
        gevent.spawn(front.drain)

    def handle_quit(self, sig: int, frame: Any) -> None:
        """SIGINT and SIGQUIT, from a terminal: the same."""
        self.handle_exit(sig, frame)
