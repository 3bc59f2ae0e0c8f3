"""What Redis must be like before anything is entrusted to it: never evicting, durable, not full."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import gevent
import redis

from tasks import connections, store
from tasks.errors import SettingsError, StoreUnavailable
from tasks.settings import Settings

logger = logging.getLogger(__name__)

#: Above this part of maxmemory nothing is accepted, so that what was accepted has room to drain.
FULL = 0.85
NO_EVICTION = "noeviction"
CHECK_SECONDS = 1.0
PATIENCE_SECONDS = 2.0


def check_at_start() -> None:
    """Refuse a Redis that may drop what it holds.

    Raises:
        SettingsError: its maxmemory-policy is not noeviction.
    """
    try:
        info: dict[str, Any] = connections.client().info()
    except redis.RedisError as error:
        logger.warning(
            "Redis is away or refuses (%s): requests are answered 503 until it serves; start it, or mend REDIS_URL",
            connections.complaint(error),
        )
        return
    if _policy(info) != NO_EVICTION:
        raise SettingsError(
            f"Redis evicts keys (maxmemory-policy {_policy(info)}) and would lose paid requests: set it to noeviction"
        )
    if not info.get("aof_enabled"):
        logger.warning(
            "Redis has no append-only file: a restart of Redis loses accepted requests; set appendonly yes"
            " and appendfsync always"
        )


def _policy(info: dict[str, Any]) -> str:
    return str(info.get("maxmemory_policy", NO_EVICTION))


def check_writable() -> None:
    """Write to Redis.

    Raises:
        redis.RedisError: it is away, full or read-only.
    """
    connections.client().set(f"{store.PREFIX}ready", 1, ex=60)


class Pressure:
    """Looks at Redis once a second, with a connection and less patience than who works with it.

    So what would wait for a Redis that hangs is refused at once, as if it were gone.
    """

    def __init__(self, config: Settings) -> None:
        self._client = connections.connect(config, patience_seconds=PATIENCE_SECONDS)
        self._trouble = ""

    def start(self, on_absence: Callable[[], None]) -> None:
        """Start to look; `on_absence` is called whenever Redis does not answer."""
        self._look(on_absence)
        gevent.spawn(self._look_forever, on_absence)

    def check(self) -> None:
        """Pass while Redis answers, evicts nothing, and has room.

        Raises:
            StoreUnavailable: it does not, it does, or it is more than FULL full.
        """
        if self._trouble:
            raise StoreUnavailable(self._trouble, retry_after_seconds=20)

    def _look_forever(self, on_absence: Callable[[], None]) -> None:
        while True:
            gevent.sleep(CHECK_SECONDS)
            self._look(on_absence)

    def _look(self, on_absence: Callable[[], None]) -> None:
        try:
            memory: dict[str, Any] = self._client.info("memory")
        except redis.RedisError as error:
            self._trouble = str(store.unavailable(error))
            on_absence()
            return
        trouble = _trouble(memory)
        if trouble and trouble != self._trouble:
            logger.error("requests are answered 503: %s", trouble)
        self._trouble = trouble


def _trouble(memory: dict[str, Any]) -> str:
    limit = memory.get("maxmemory") or 0
    if limit and memory["used_memory"] > FULL * limit:
        return "The proxy's store is full; try again when it has drained."
    if _policy(memory) != NO_EVICTION:
        return "The proxy's store may drop what it holds: its operator must set maxmemory-policy noeviction."
    return ""
