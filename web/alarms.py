"""One clock for all held clients: a greenlet that wakes whoever is due.

A timer per client would be one more entry in the event loop's heap for each of 20,000; here an alarm is
a place in a set of its tenth of a second, and is put there and taken away in constant time.
"""

from __future__ import annotations

import time
from collections import defaultdict
from typing import Final

import gevent

from tasks.results import Waiter

TICK_SECONDS: Final = 0.1


class Alarms:
    """The next alarm of each waiter; it has one at most."""

    def __init__(self) -> None:
        self._due: defaultdict[int, set[Waiter]] = defaultdict(set)
        self._tick = _tick(time.monotonic())

    def start(self) -> None:
        """Start the greenlet."""
        gevent.spawn(self._ring_forever)

    def set(self, waiter: Waiter, at: float) -> None:
        """Nudge a waiter at this time of the monotonic clock, up to two ticks late."""
        self.clear(waiter)
        waiter.tick = max(_tick(at), self._tick) + 1
        self._due[waiter.tick].add(waiter)

    def clear(self, waiter: Waiter) -> None:
        """No alarm for this waiter."""
        if waiters := self._due.get(waiter.tick):
            waiters.discard(waiter)
            if not waiters:
                del self._due[waiter.tick]

    def _ring_forever(self) -> None:
        while True:
            gevent.sleep(TICK_SECONDS)
            now = _tick(time.monotonic())
            while self._tick < now:
                self._tick += 1
                for waiter in self._due.pop(self._tick, ()):
                    waiter.nudge()


def _tick(at: float) -> int:
    return int(at / TICK_SECONDS)
