"""The connection to Redis: one pool per process, built on first use."""

from __future__ import annotations

import functools
import ssl
import textwrap
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tasks.settings import Settings, settings

#: Longest silence of Redis that a command bears; blocking reads stay below it.
SOCKET_TIMEOUT_SECONDS = 5.0


def connect(config: Settings, *, patience_seconds: float = SOCKET_TIMEOUT_SECONDS) -> redis.Redis:
    """A client with a pool of its own, for which Redis may be silent for so long.

    It never repeats a command by itself: redis-py's default retries would run a push twice
    after a lost reply, and take seconds to say that Redis is away.
    """
    options = config.redis_tls
    if options.get("ssl_cert_reqs") == ssl.CERT_NONE:
        options["ssl_check_hostname"] = False
    pool = redis.BlockingConnectionPool.from_url(
        config.redis,
        max_connections=config.redis_max_connections,
        timeout=patience_seconds,
        socket_timeout=patience_seconds,
        socket_connect_timeout=min(patience_seconds, 3.0),
        retry=Retry(NoBackoff(), 0),
        **options,
    )
    return redis.Redis.from_pool(pool)


@functools.cache
def client() -> Any:
    """This process's client. Any, because redis-py types a reply as all that any option could make of it."""
    return connect(settings())


def complaint(error: Exception) -> str:
    """What Redis, or the way to it, says is wrong: for the operator, of commands that carry no caller's data."""
    text = str(error).partition("with args")[0]  # a server without HELLO repeats the password
    return textwrap.shorten(f"{type(error).__name__}: {text}", 160, placeholder=" …")
