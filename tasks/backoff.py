"""How long to wait before the upstream is asked again: the only place that decides it."""

from __future__ import annotations

import random

BASE_SECONDS = 1.0
CAP_SECONDS = 60.0
#: An upstream may ask for patience, but not beyond this.
RETRY_AFTER_CAP_SECONDS = 600.0


def seconds(failures: int, retry_after_seconds: float | None = None) -> float:
    """Exponential back-off with full jitter above a half; Retry-After is a floor."""
    jitter = random.uniform(0.5, 1.0)  # noqa: S311 - no secret  # nosec B311
    pause: float = min(CAP_SECONDS, BASE_SECONDS * 2 ** min(failures, 10)) * jitter
    return max(pause, min(retry_after_seconds or 0.0, RETRY_AFTER_CAP_SECONDS))
