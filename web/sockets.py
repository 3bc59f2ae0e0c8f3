"""Finds the held clients that have gone away: one poll over all their sockets, twice a second.

A client that waits has nothing more to say, so what can be read from it is its end.
"""

from __future__ import annotations

import contextlib
import logging
import select
import socket
from typing import Any, Final

import gevent
from gevent import monkey

from tasks.errors import ClientGone
from tasks.results import Waiter

logger = logging.getLogger(__name__)

SWEEP_SECONDS: Final = 0.5
#: gevent's own poll would make a watcher for each socket; this one comes back at once.
_poll: Any = monkey.get_original("select", "poll")


class Sockets:
    """The sockets of the clients that wait here."""

    def __init__(self) -> None:
        self._poll = _poll()
        self._waiters: dict[int, tuple[socket.socket, Waiter]] = {}

    def start(self) -> None:
        """Start the greenlet."""
        gevent.spawn(self._sweep_forever)

    def watch(self, sock: socket.socket, waiter: Waiter) -> int:
        """Wake a waiter when its client goes away; returns what `unwatch` wants."""
        number = sock.fileno()
        self._waiters[number] = (sock, waiter)
        self._poll.register(number, select.POLLIN)
        return number

    def unwatch(self, number: int) -> None:
        """Let it be; before the socket is closed."""
        if self._waiters.pop(number, None):
            self._poll.unregister(number)

    def sweep(self) -> None:
        """Wake everybody whose client has gone."""
        for number, _ in self._poll.poll(0):
            sock, waiter = self._waiters[number]
            if _at_end(sock):
                waiter.wake(ClientGone("the client went away"))

    def _sweep_forever(self) -> None:
        while True:
            gevent.sleep(SWEEP_SECONDS)
            try:
                self.sweep()
            except Exception:
                logger.exception("the held sockets could not be looked at, going on")


def gone(sock: socket.socket) -> bool:
    """Whether this client has gone away."""
    poll = _poll()
    with contextlib.suppress(OSError, ValueError):
        poll.register(sock.fileno(), select.POLLIN)
        return bool(poll.poll(0)) and _at_end(sock)
    return True


def _at_end(sock: socket.socket) -> bool:
    """Of a socket that has something to read: is it the end, or another request sent ahead?"""
    try:
        return not sock.recv(1, socket.MSG_PEEK)
    except OSError:
        return True
