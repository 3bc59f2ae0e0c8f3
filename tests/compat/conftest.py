"""Two stacks for all clients: one whose batches are quick, and one whose batches outlast any client's patience."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import running
from tests.compat.asking import Asking
from tests.simulator.server import serve

#: 150 times faster than life: an SDK's 600 s are 4, the first sign of life comes after 1.6 instead of 240.
HURRIED = {
    "LLM_PROXY_HEARTBEAT_AFTER_SECONDS": "1.6",
    "LLM_PROXY_HEARTBEAT_SECONDS": "1",
    "LLM_PROXY_MAX_LINE_ATTEMPTS": "1",
}
BATCH_SECONDS = 12


@contextlib.contextmanager
def _asking(home: Path, batch_seconds: float, **variables: Any) -> Iterator[Asking]:
    with (
        serve(validate_delay=0.1, batch_delay=batch_seconds, finalize_delay=0.1) as upstream,
        running.redis_server() as server,
        running.running_stack(server.url, upstream.url, LLM_PROXY_WEB_PROCESSES="1", **variables) as stack,
    ):
        yield Asking(stack, upstream, home)


@pytest.fixture(scope="session")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asking]:
    """As shipped, and batches that are done at once."""
    with _asking(tmp_path_factory.mktemp("home"), 0.1) as made:
        yield made


@pytest.fixture(scope="session")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asking]:
    """In proportion, and batches that take three times a client's patience."""
    with _asking(tmp_path_factory.mktemp("home"), BATCH_SECONDS, **HURRIED) as made:
        yield made
