"""A stack whose times are a three-hundredth of the real ones: SDKs give up after 2 s, the first byte comes in 0.8."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests import running
from tests.clients.asking import Front
from tests.running import Stack
from tests.simulator.server import Simulator, serve


@pytest.fixture(scope="package")
def slow_upstream() -> Iterator[Simulator]:
    """An upstream whose batches take longer than any SDK's patience."""
    with serve(validate_delay=0.1, batch_delay=5, finalize_delay=0.1) as upstream:
        yield upstream


@pytest.fixture(scope="package")
def slow_stack(slow_upstream: Simulator) -> Iterator[Stack]:
    """A stack in front of it, of two web processes."""
    with (
        running.redis_server() as server,
        running.running_stack(
            server.url,
            slow_upstream.url,
            LLM_PROXY_HEARTBEAT_AFTER_SECONDS="0.8",
            LLM_PROXY_HEARTBEAT_SECONDS="1",
            LLM_PROXY_MAX_LINE_ATTEMPTS="1",
        ) as stack,
    ):
        yield stack


@pytest.fixture
def front(slow_stack: Stack, slow_upstream: Simulator, api_key: str) -> Iterator[Front]:
    """The slow stack as one test's clients see it."""
    before = slow_upstream.configure()
    yield Front(slow_stack.url, api_key, slow_upstream)
    slow_upstream.configure(**before)
