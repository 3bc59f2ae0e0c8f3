"""The store's own functions against a real Redis, in this process."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests import running
from tests.integration.fronts import request_, web
from tests.integration.stages import _quick_upstream, line
from tests.integration.this_process import these_settings
from tests.integration.untrusted import raw

__all__ = ["_quick_upstream", "line", "raw", "request_", "web"]


@pytest.fixture(scope="session")
def _own_redis() -> Iterator[running.RedisServer]:
    with running.redis_server() as server:
        yield server


@pytest.fixture
def redis_client(_own_redis: running.RedisServer) -> Iterator[Any]:
    """An empty Redis that the project's functions, called in this process, work on."""
    _own_redis.client.flushall()
    with these_settings(
        REDIS_URL=_own_redis.url, LLM_PROXY_VAULT_KEYS=running.VAULT_KEY, LLM_PROXY_MAX_HOLD_SECONDS="0"
    ):
        yield _own_redis.client
