"""The store's own functions against a real Redis, in this process."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tasks import connections, sealing, settings, store, vault
from tests import running
from tests.integration.fronts import request_, web
from tests.integration.stages import _quick_upstream, line
from tests.integration.untrusted import raw

__all__ = ["_quick_upstream", "line", "raw", "request_", "web"]


@pytest.fixture(scope="session")
def _own_redis() -> Iterator[running.RedisServer]:
    with running.redis_server() as server:
        yield server


@pytest.fixture
def redis_client(_own_redis: running.RedisServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An empty Redis that the project's functions, called in this process, work on."""
    _own_redis.client.flushall()
    monkeypatch.setenv("REDIS_URL", _own_redis.url)
    monkeypatch.setenv("LLM_PROXY_VAULT_KEYS", running.VAULT_KEY)
    monkeypatch.setenv("LLM_PROXY_MAX_HOLD_SECONDS", "0")
    caches = (settings.settings, connections.client, store._script, vault._keys, sealing._masters)
    for cached in caches:
        cached.cache_clear()
    yield _own_redis.client
    for cached in caches:
        cached.cache_clear()
