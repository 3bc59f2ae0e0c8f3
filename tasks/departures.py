"""Notes in bulk which clients were answered and which went away, so that each reply is given once.

A departure is noted after the bytes were written. Those of some milliseconds go together; while Redis
is away they are kept and noted later.
"""

from __future__ import annotations

import logging
from collections import deque
from enum import StrEnum
from typing import Final

import gevent
from gevent.event import Event

from tasks import store
from tasks.errors import StoreUnavailable
from tasks.presence import Presence
from tasks.settings import Settings

logger = logging.getLogger(__name__)

GATHER_SECONDS: Final = 0.02
CHUNK: Final = 500
RETRY_SECONDS: Final = 0.5
#: While Redis is away, no more than this many are kept.
MOST: Final = 100_000


class How(StrEnum):
    """How a client departed."""

    SUCCESS = "success"  #: with a 2xx
    ERROR = "error"  #: with another final reply
    LOST = "lost"  #: with a 2xx that was written, and reset its connection instead of reading it
    GONE = "gone"  #: without its reply
    CANCELLED = "cancelled"  #: the same, and its request is to be taken out while it is still queued
    KEY = "key"  #: with a retryable error to an Idempotency-Key, which is free again


class Departures:
    """The departed clients of one process on their way into Redis."""

    def __init__(self, config: Settings, presence: Presence) -> None:
        self._config = config
        self._presence = presence
        self._pending: deque[tuple[str, str, How]] = deque()
        self._dropped = 0
        self._arrived = Event()
        self._noted = Event()
        self._noted.set()

    def start(self) -> None:
        """Start the publisher greenlet."""
        gevent.spawn(self._publish_forever)

    def add(self, request_id: str, digest: str, how: How) -> None:
        """Note one, soon."""
        if len(self._pending) >= MOST:
            self._dropped += 1
            return
        self._pending.append((request_id, digest, how))
        self._noted.clear()
        self._arrived.set()

    def flush(self, seconds: float) -> None:
        """Wait until all are noted, but not longer than this."""
        self._noted.wait(seconds)

    def _publish_forever(self) -> None:
        while True:
            self._arrived.wait()
            gevent.sleep(GATHER_SECONDS)
            self._arrived.clear()
            while self._pending:
                chunk = [self._pending.popleft() for _ in range(min(CHUNK, len(self._pending)))]
                try:
                    self._publish(chunk)
                except StoreUnavailable:
                    self._pending.extendleft(reversed(chunk))
                    gevent.sleep(RETRY_SECONDS)
                except Exception:
                    logger.exception("%d departures could not be noted", len(chunk))
            self._noted.set()

    def _publish(self, chunk: list[tuple[str, str, How]]) -> None:
        rows: list[str] = []
        for request_id, digest, how in chunk:
            rows += (request_id, digest, How.GONE if how is How.CANCELLED else how)
        kept_seconds = self._config.result_ttl_seconds
        store.run("depart", self._presence.number, store.DELIVERED_SECONDS, kept_seconds, *rows)
        if self._dropped:
            logger.error("%d departures were not noted while Redis was away", self._dropped)
            self._dropped = 0
        cancelled = [request_id for request_id, _, how in chunk if how is How.CANCELLED]
        if cancelled:
            withdrawn = store.run("withdraw", "requests_cancelled", *cancelled)
            logger.info("%d of %d requests whose clients went away are taken out", withdrawn, len(cancelled))
