"""Whose turn it is in a lane: so many steps at the same time, and no caller keeps another waiting for all of its own.

A lane's worker takes many tasks, as a greenlet that waits costs nothing, and lets in so many of them as it can serve:
of each credential a share, and those that wait in rotation by credential, not in the order in which they came.
"""

from __future__ import annotations

import contextlib
import threading
from collections import Counter, OrderedDict, deque
from collections.abc import Iterator


class Turns:
    """The turns of one lane in one process."""

    def __init__(self, *, most: int, share: int) -> None:
        self._most, self._share = most, share
        self._lock = threading.Lock()
        self._running: Counter[str] = Counter()
        self._waiting: OrderedDict[str, deque[threading.Event]] = OrderedDict()

    @contextlib.contextmanager
    def turn(self, credential: str) -> Iterator[None]:
        """Wait for a turn, and have it for one `with`."""
        mine = threading.Event()
        with self._lock:
            self._waiting.setdefault(credential, deque()).append(mine)
            self._call()
        try:
            mine.wait()
            yield
        finally:  # also when the waiting is broken off
            with self._lock:
                if mine.is_set():
                    self._running[credential] -= 1
                    if not self._running[credential]:
                        del self._running[credential]
                else:
                    self._leave(credential, mine)
                self._call()

    def _leave(self, credential: str, event: threading.Event) -> None:
        self._waiting[credential].remove(event)
        if not self._waiting[credential]:
            del self._waiting[credential]

    def _call(self) -> None:
        """Let in whoever may come in; the caller holds the lock."""
        while self._running.total() < self._most:
            credential = next((each for each in self._waiting if self._running[each] < self._share), None)
            if credential is None:
                return
            event = self._waiting[credential][0]
            self._leave(credential, event)
            if credential in self._waiting:
                self._waiting.move_to_end(credential)
            self._running[credential] += 1
            event.set()
