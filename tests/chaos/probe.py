"""Looks at the front twice a second, so that a caller's time can be told from the front's absence."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

import requests

PAUSE_SECONDS = 0.5
PATIENCE_SECONDS = 1.0


@dataclass
class Probe:
    """Remembers when the front did not answer.

    Attributes:
        absences: (from, to) of each look that was in vain and the pause after it, in Unix time.
    """

    url: str
    absences: list[tuple[float, float]] = field(default_factory=list)
    seen: float = 0.0  # when it answered last
    _done: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Look until told to stop."""
        while not self._done.is_set():
            began = time.time()
            try:
                requests.get(f"{self.url}/healthz", timeout=PATIENCE_SECONDS)
                self.seen, there = time.time(), True
            except requests.RequestException:
                there = False
            self._done.wait(PAUSE_SECONDS)
            if not there:
                self.absences.append((began, time.time()))

    def stop(self) -> None:
        """No more looks."""
        self._done.set()

    def away_seconds(self, begin: float, end: float) -> float:
        """For how long of a span of time the front did not answer."""
        return sum(max(0.0, min(end, until) - max(begin, since)) for since, until in self.absences)
