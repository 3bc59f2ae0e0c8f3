"""Holds each client until its reply is there: accept first, then wait, once for each request.

A client is a greenlet that sleeps; what wakes it is shared: one reader of results, one clock, one look at
all sockets. Whether it was answered or went away is noted when it departs.
"""

from __future__ import annotations

import contextlib
import random
import socket
import time
from collections.abc import Iterator
from dataclasses import replace

import gevent

from tasks import holding, open_files
from tasks.accept import Acceptor
from tasks.departures import Departures, How
from tasks.errors import ClientGone, DeadlineExceeded, Draining, StoreUnavailable, TooManyWaiting
from tasks.models import Attempt, Reply, Request
from tasks.presence import Presence
from tasks.results import Results, Waiter
from tasks.settings import Settings
from web import sockets
from web.alarms import Alarms
from web.sockets import Sockets

#: Beyond the request's own deadline, by which the pipeline has replied.
DEADLINE_MARGIN_SECONDS = 120.0
SPARE_FILES = 300
#: How long a retry waits for its predecessor's client to be found gone or its front dead, between its looks.
RETRY_PAUSES = (0.2, 0.3, 0.5, 1.0, 2.0, 2.0, 3.0, 3.0)
#: When a client that is sent away comes again: spread, so that the next process is not run over.
RETRY_AFTER_SECONDS = (5.0, 15.0)
#: Within this time a draining front has written what it had begun to write.
LAST_WORDS_SECONDS = 3.0
RETRYABLE = frozenset({408, 409, 429})


class Held:
    """One client that waits for the reply to its request.

    Attributes:
        until: when it will have waited as long as is promised, by the monotonic clock.
        lost: another client took its request while this front counted as dead.
    """

    __slots__ = ("_front", "_watched", "digest", "keyed", "lost", "task_id", "until", "waiter")

    def __init__(self, front: Front, request: Request, waiter: Waiter, until: float) -> None:
        self._front = front
        self._watched = -1
        self.task_id = request.id
        self.digest = request.digest
        self.keyed = bool(request.idempotency_key)
        self.lost = False
        self.waiter = waiter
        self.until = until

    def watch(self, sock: socket.socket) -> None:
        """Be woken when the client goes away."""
        self._watched = self._front.sockets.watch(sock, self.waiter)

    def wait(self, at: float) -> Reply | None:
        """Wait for the reply, or until about this time of the monotonic clock.

        Raises:
            ClientGone: the client went away.
            Draining: this process does, or had to give the request up.
            DeadlineExceeded: no reply came.
        """
        self._front.alarms.set(self.waiter, min(at, self.until))
        reply = self.waiter.wait()
        if reply is None and time.monotonic() >= self.until:
            raise DeadlineExceeded("The request was not answered within its deadline.")
        return reply

    @contextlib.contextmanager
    def being_answered(self) -> Iterator[None]:
        """While the reply is written: it must be this client's still.

        Raises:
            Draining: it has been given up.
        """
        with self._front.answering(self):
            yield

    def keep_alive(self) -> None:
        """Count it: the client is sent its first sign of life."""
        self._front.kept_alive += 1

    def depart(self, delivered: int | None, *, went_away: bool = False, unread_seconds: float = 0.0) -> None:
        """The client is held no more.

        Args:
            delivered: status of the reply whose bytes were all written; None: it did not get its reply.
            went_away: because it closed its connection.
            unread_seconds: for how long from now on a reset of the connection means that the client has not read it.
        """
        if self._watched >= 0:
            self._front.sockets.unwatch(self._watched)
        self._front.alarms.clear(self.waiter)
        self._front.depart(self, delivered, went_away=went_away, unread_seconds=unread_seconds)


class Front:
    """The clients that one web process holds.

    Attributes:
        draining: no request is accepted any more.
        kept_alive: how many clients have been sent a sign of life.
    """

    def __init__(self, config: Settings) -> None:
        self._config = config
        self._presence = Presence()
        self._acceptor = Acceptor(config, self._presence)
        self._departures = Departures(config, self._presence)
        self._results = Results()
        self._held: dict[Waiter, Held] = {}
        self._answering = 0
        self._started = False
        self.alarms = Alarms()
        self.sockets = Sockets()
        # A client is an open file; some are for Redis, the upstream and health checks.
        self._most = open_files.allowed() - SPARE_FILES
        self.draining = False
        self.kept_alive = 0

    def start(self) -> None:
        """Start the greenlets that serve all clients; called with the first request."""
        if not self._started:
            self._started = True
            self._presence.start(self._waiting, self._lose)
            for part in (self._acceptor, self._departures, self._results, self.alarms, self.sockets):
                part.start()
            gevent.spawn(holding.report_forever, lambda: len(self._held), lambda: self.kept_alive)

    def hold(self, request: Request, credential: str, sock: socket.socket | None) -> Held:
        """Accept a request; its client, at the other end of the socket, waits from now on, until it departs.

        Raises:
            ClientGone: it has gone before anything was accepted; its retry may be here already.
            Unavailable: nothing was accepted, or this process is going away.
            ClientError: it was refused.
        """
        if self.draining:
            raise _draining()
        if len(self._held) >= self._most:
            raise TooManyWaiting("Too many requests are waiting; try again shortly.", retry_after_seconds=5)
        self.start()
        until = time.monotonic() + self._config.request_deadline_seconds + DEADLINE_MARGIN_SECONDS
        # Registered before it can be settled; under its own id even if it turns out to be a repetition.
        caller = request.group.credential
        held = Held(self, request, self._results.register(request.id, caller), until)
        self._held[held.waiter] = held
        try:
            held.task_id = self._accept(request, credential, sock)
            if held.task_id != request.id:
                self._forget(held)
                held.waiter = self._results.register(held.task_id, caller)
                self._held[held.waiter] = held
                self._results.look(held.task_id)
            if self.draining:
                raise _draining()
        except BaseException:
            if held.task_id == request.id:
                self._forget(held)
            else:  # an orphan, which this front has taken already
                self.depart(held, None)
            raise
        return held

    def _accept(self, request: Request, credential: str, sock: socket.socket | None) -> str:
        for pause in RETRY_PAUSES:
            if task_id := self._ask(request, credential, sock):
                return task_id
            gevent.sleep(pause)
        return self._ask(replace(request, attempt=Attempt.JOIN), credential, sock)

    def _ask(self, request: Request, credential: str, sock: socket.socket | None) -> str:
        if sock is not None and sockets.gone(sock):  # it was not waited for: we were too slow
            raise ClientGone("the client went away")
        return self._acceptor.accept(request, credential)

    def _forget(self, held: Held) -> None:
        self._results.forget(held.waiter)
        self._held.pop(held.waiter, None)

    @contextlib.contextmanager
    def answering(self, held: Held) -> Iterator[None]:
        """While a reply is written; see Held.being_answered."""
        with contextlib.suppress(StoreUnavailable):  # then nobody else can have got it either
            if not held.keyed:
                self._presence.ensure()
        if held.lost or self._presence.left:
            raise _draining()
        self._answering += 1
        try:
            yield
        finally:
            self._answering -= 1

    def depart(
        self, held: Held, delivered: int | None, *, went_away: bool = False, unread_seconds: float = 0.0
    ) -> None:
        """A client is held no more; see Held.depart."""
        self._forget(held)
        if held.keyed:  # whoever gives a key means to come again
            if delivered is not None and (delivered in RETRYABLE or delivered >= 500):
                self._departures.add(held.task_id, held.digest, How.KEY)
        elif delivered is not None:
            success = 200 <= delivered < 300
            self._departures.add(held.task_id, held.digest, How.SUCCESS if success else How.ERROR)
            if success and unread_seconds:  # the greenlet is the connection's: see `unread`
                until = time.monotonic() + unread_seconds
                gevent.getcurrent().answered = (held.task_id, held.digest, until)  # type: ignore[attr-defined]  # any attribute
        elif not self.draining and not self._results.waits(held.task_id):
            cancel = went_away and self._config.cancel_on_disconnect
            self._departures.add(held.task_id, held.digest, How.CANCELLED if cancel else How.GONE)

    def unread(self, connection: object) -> None:
        """A connection was reset: if that was its last answer's doing, its client had given up and comes again."""
        if answered := getattr(connection, "answered", None):
            task_id, digest, until = answered
            if time.monotonic() < until:
                self._departures.add(task_id, digest, How.LOST)

    def drain(self) -> None:
        """Send the waiting clients away, to find their requests again by a retry on the next process."""
        self.draining = True
        for held in list(self._held.values()):
            held.waiter.wake(_draining())
        last_words = time.monotonic() + LAST_WORDS_SECONDS
        while self._answering and time.monotonic() < last_words:
            gevent.sleep(0.05)
        self._departures.flush(LAST_WORDS_SECONDS)
        if self._started:
            self._presence.leave()  # now everything that waited here is an orphan

    def _waiting(self) -> list[tuple[str, str]]:
        return [(held.task_id, held.digest) for held in self._held.values() if not held.keyed]

    def _lose(self, request_ids: set[str]) -> None:
        for held in list(self._held.values()):
            if held.task_id in request_ids and not held.keyed:
                held.lost = True
                held.waiter.wake(_draining())


def _draining() -> Draining:
    return Draining(
        "The proxy is restarting; your request goes on, try again.",
        retry_after_seconds=random.uniform(*RETRY_AFTER_SECONDS),  # noqa: S311 - to spread them, no secret  # nosec B311
    )
