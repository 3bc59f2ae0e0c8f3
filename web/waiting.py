"""Holds each client until its reply is there: accept first, then wait, once for each request."""

from __future__ import annotations

import resource

import gevent

from tasks import presence
from tasks.accept import Acceptor
from tasks.errors import DeadlineExceeded, Draining, TooManyWaiting
from tasks.models import Reply, Request
from tasks.results import Results
from tasks.settings import Settings

#: Beyond the request's own deadline, by which the pipeline has replied.
DEADLINE_MARGIN_SECONDS = 120.0
SPARE_FILES = 300


class Front:
    """The clients that one web process holds.

    Attributes:
        draining: no request is accepted any more.
    """

    def __init__(self, config: Settings) -> None:
        self._config = config
        self._acceptor = Acceptor(config)
        self._results = Results()
        self._started = False
        # A client is an open file; some are for Redis, the upstream and health checks.
        self._most = min(config.max_waiting, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - SPARE_FILES)
        self.draining = False

    def start(self) -> None:
        """Start the two greenlets that serve all clients; called with the first request."""
        if not self._started:
            self._started = True
            self._acceptor.start()
            self._results.start()
            gevent.spawn(presence.report_forever, lambda: len(self._results))

    def drain(self) -> None:
        """Send the waiting clients away, to find their requests again by a retry on the next process."""
        self.draining = True
        self._results.wake_all(_draining())

    def hold(self, request: Request, credential: str) -> tuple[str, Reply]:
        """Accept a request and wait for its reply; returns the task id with it.

        Raises:
            Unavailable: nothing was accepted, or this process is going away.
            ClientError: it was refused.
            DeadlineExceeded: no reply came.
        """
        if self.draining:
            raise _draining()
        if len(self._results) >= self._most:
            raise TooManyWaiting("Too many requests are waiting; try again shortly.", retry_after_seconds=5)
        self.start()
        # Registered before it can be settled; under its own id even if it turns out to be a repetition.
        waiter = self._results.register(request.id)
        try:
            task_id = self._acceptor.accept(request, credential)
            if self.draining:
                raise _draining()
            if task_id != request.id:
                self._results.forget(waiter)
                waiter = self._results.register(task_id)
                self._results.look(task_id)
            timeout = self._config.request_deadline_seconds + DEADLINE_MARGIN_SECONDS
            return task_id, waiter.wait(timeout)
        except gevent.Timeout:
            raise DeadlineExceeded("The request was not answered within its deadline.") from None
        finally:
            self._results.forget(waiter)


def _draining() -> Draining:
    return Draining("The proxy is restarting; your request goes on, try again.", retry_after_seconds=5)
