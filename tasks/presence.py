"""Says to the other fronts that this one lives, and which of its waiters still are its own.

Each front has a number in Redis that it renews. A request whose waiter belongs to a number that is not
there any more is an orphan: the next equal request takes it (accept.lua). So a front that dies, drains
or is cut off for too long loses all its waiters at once, and nobody has to be told.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence

import gevent
from gevent.lock import RLock

from tasks import connections, store
from tasks.errors import StoreUnavailable

logger = logging.getLogger(__name__)

RENEW_SECONDS = 2.0
#: Without a sign for so long a front counts as dead.
ABSENT_SECONDS = 10.0
CHUNK_WAITERS = 500

#: Request id and digest of equal requests, of each client that waits.
Waiting = Sequence[tuple[str, str]]


class Presence:
    """This process's place among the fronts.

    Attributes:
        number: 0 as long as it has none.
        left: it has been given up, with all waiters.
    """

    def __init__(self) -> None:
        self.number = 0
        self._certain_until = 0.0
        self._failed_at = -math.inf
        self._numbers: list[int] = []
        self.left = False
        self._lock = RLock()
        self._waiting: Callable[[], Waiting] = list
        self._lost: Callable[[set[str]], None] = lambda request_ids: None

    def start(self, waiting: Callable[[], Waiting], lost: Callable[[set[str]], None]) -> None:
        """Start to renew it.

        Args:
            waiting: who waits here.
            lost: called with the requests that other clients took while this front counted as dead.
        """
        self._waiting, self._lost = waiting, lost
        gevent.spawn(self._renew_forever)

    def ensure(self) -> None:
        """Come back only when this front certainly counts as living.

        Raises:
            StoreUnavailable: nobody can say.
        """
        if time.monotonic() < self._certain_until or self.left:
            return
        with self._lock:
            if time.monotonic() < self._certain_until:
                return
            if time.monotonic() < self._failed_at + RENEW_SECONDS:  # whoever comes now need not wait as long again
                raise StoreUnavailable(store.ABSENT, retry_after_seconds=20)
            self._renew()

    def leave(self) -> None:
        """Give all waiters up at once: this process is going away."""
        with self._lock:
            self.left = True
            connections.client().zrem(f"{store.PREFIX}fronts", self.number)

    def _renew_forever(self) -> None:
        while not self.left:
            gevent.sleep(RENEW_SECONDS)
            try:
                self._renew()
            except StoreUnavailable:
                continue  # whoever needs it hears it from `ensure`
            except Exception:
                logger.exception("the presence of this front could not be renewed, going on")

    def _renew(self) -> None:
        with self._lock:
            if self.left:
                return
            began = time.monotonic()
            try:
                number = int(store.run("presence", self.number, int(ABSENT_SECONDS * 1000)))
                if not number:
                    number = int(store.run("presence", 0, int(ABSENT_SECONDS * 1000)))
                    self._numbers.append(number)
                    self._reclaim(number)
            except StoreUnavailable:
                self._failed_at = time.monotonic()
                raise
            if self.number != number:
                self.number = number
                self._numbers = [number]
            # From before the call: we stop believing before Redis does.
            self._certain_until = began + ABSENT_SECONDS - RENEW_SECONDS

    def _own_numbers(self) -> str:
        """The old one, and new ones with which taking back was begun and broke off."""
        return f",{','.join(map(str, self._numbers))},"

    def _reclaim(self, number: int) -> None:
        waiting = list(self._waiting())
        lost: set[str] = set()
        for start in range(0, len(waiting), CHUNK_WAITERS):
            chunk = waiting[start : start + CHUNK_WAITERS]
            kept = store.run("reclaim", number, self._own_numbers(), *(value for waiter in chunk for value in waiter))
            lost |= {request_id for (request_id, _), mine in zip(chunk, kept, strict=True) if not mine}
        logger.warning(
            "this front counted as dead: %d of its %d waiting clients lost their request", len(lost), len(waiting)
        )
        self._lost(lost)
