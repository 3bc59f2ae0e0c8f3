"""What Redis must be like before anything is entrusted to it: never evicting, durable, not full."""

from __future__ import annotations

import logging
import time
from typing import Any

import redis

from tasks import connections
from tasks.errors import SettingsError, StoreUnavailable

logger = logging.getLogger(__name__)

#: Above this part of maxmemory nothing is accepted, so that what was accepted has room to drain.
FULL = 0.85
CHECK_SECONDS = 1.0


def check_at_start() -> None:
    """Refuse a Redis that may drop what it holds.

    Raises:
        SettingsError: its maxmemory-policy is not noeviction.
    """
    try:
        info: dict[str, Any] = connections.client().info()
    except redis.RedisError as error:
        logger.warning("Redis is away (%s): requests are answered 503 until it is there", type(error).__name__)
        return
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        raise SettingsError(
            f"Redis evicts keys (maxmemory-policy {policy}) and would lose paid requests: set it to noeviction"
        )
    if not info.get("aof_enabled"):
        logger.warning(
            "Redis has no append-only file: a restart of Redis loses accepted requests; set appendonly yes"
            " and appendfsync always"
        )


class Pressure:
    """Looks at Redis' memory at most once a second."""

    def __init__(self) -> None:
        self._checked_at = 0.0
        self._full = False

    def check(self) -> None:
        """Pass while there is room.

        Raises:
            StoreUnavailable: Redis is more than FULL full.
        """
        now = time.monotonic()
        if now - self._checked_at > CHECK_SECONDS:
            self._checked_at = now
            memory = connections.client().info("memory")
            limit = memory.get("maxmemory") or 0
            self._full = bool(limit) and memory["used_memory"] > FULL * limit
        if self._full:
            raise StoreUnavailable("The proxy's store is full; try again when it has drained.", retry_after_seconds=20)
