"""The gunicorn worker: gevent's, which sends waiting clients away when it is told to stop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gevent
from gunicorn.workers.ggevent import GeventWorker

if TYPE_CHECKING:  # gunicorn imports this module before it patches the standard library
    from web.waiting import Front


class FrontWorker(GeventWorker):  # type: ignore[misc]  # gunicorn is not typed
    """gunicorn runs no hook before it waits for held clients, so the signal itself is ours."""

    def handle_exit(self, sig: int, frame: Any) -> None:
        """SIGTERM: finish what is being written, hold nobody."""
        super().handle_exit(sig, frame)
        front: Front = self.wsgi.extensions["front"]
        gevent.spawn(front.drain)

    def handle_quit(self, sig: int, frame: Any) -> None:
        """SIGINT and SIGQUIT, from a terminal: the same."""
        self.handle_exit(sig, frame)
