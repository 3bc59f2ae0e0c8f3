"""A front alone (no worker, no beat) before an upstream of bare sockets."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests import running
from tests.relay.raw_upstream import RawUpstream
from tests.running import RedisServer, Stack

settings.register_profile("long", max_examples=20_000, database=None)

#: Long enough for a busy machine, short enough to wait for.
PATIENCE_SECONDS = 4


@pytest.fixture(scope="package")
def shared_raw_upstream() -> Iterator[RawUpstream]:
    """One for the run."""
    upstream = RawUpstream()
    yield upstream
    upstream.close()


@pytest.fixture(scope="package")
def front(redis_server: RedisServer, shared_raw_upstream: RawUpstream) -> Iterator[Stack]:
    """One web process for the run."""
    with running.running_stack(
        redis_server.url,
        shared_raw_upstream.url,
        only=("web",),
        LLM_PROXY_WEB_PROCESSES="1",
        LLM_PROXY_UPSTREAM_TIMEOUT_SECONDS=str(PATIENCE_SECONDS),
    ) as stack:
        yield stack


@pytest.fixture
def raw(shared_raw_upstream: RawUpstream) -> RawUpstream:
    """The upstream without a memory."""
    shared_raw_upstream.reset()
    return shared_raw_upstream
