"""Fixtures: a Redis and a stack for a whole run, clean data for each test. And the order of a whole run."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import openai
import pytest

from tests import running, simulator
from tests.running import RedisServer, Stack
from tests.simulator.server import Simulator, serve

__all__ = ["simulator"]

# A shell that runs the tests in the background has them, and all that they start, ignore Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)

#: Files that take longest come before the other ones with processes, so that no test process ends alone with one.
LONGEST = (
    "test_contract", "test_kills_1", "test_kills_2", "test_kills_3", "test_kills_4", "test_up", "test_odd_lines",
    "test_scenario", "test_command", "test_limits", "test_dashboard", "test_waiting", "test_delivery_doubts",
    "test_deadline", "test_leaving", "test_vault", "test_ends", "test_distrust", "test_tokens", "test_odd_files",
    "test_redis_trouble", "test_chaos", "test_fairness", "test_fuzz", "test_sdks", "test_examples", "test_overview",
    "test_sdk", "test_no_key_anywhere", "test_demo", "test_newcomer", "test_points", "test_slow", "test_grace",
    "test_platforms", "test_pipeline", "test_celery", "test_bench", "test_store_model",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests without processes first: what they find is found in seconds."""
    items.sort(key=lambda item: ("tests/unit" not in item.path.as_posix(), _rank(item.path.stem)))


def _rank(name: str) -> int:
    return LONGEST.index(name) if name in LONGEST else len(LONGEST)


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """One Redis for the run."""
    with running.redis_server() as server:
        yield server


@pytest.fixture
def own_redis_server() -> Iterator[RedisServer]:
    """A Redis of the test's own: the workers of the shared stack take what they find in theirs."""
    with running.redis_server() as server:
        yield server


@pytest.fixture(scope="session")
def shared_upstream() -> Iterator[Simulator]:
    """One quick upstream for the run."""
    with serve(validate_delay=0.1, batch_delay=0.3, finalize_delay=0.1) as upstream:
        yield upstream


@pytest.fixture(scope="session")
def shared_stack(redis_server: RedisServer, shared_upstream: Simulator) -> Iterator[Stack]:
    """One stack for the run."""
    with running.running_stack(redis_server.url, shared_upstream.url) as stack:
        yield stack


@pytest.fixture
def stack(shared_stack: Stack) -> Stack:
    """The running stack; tests tell their requests apart by key and model."""
    return shared_stack


@pytest.fixture
def upstream(shared_upstream: Simulator) -> Iterator[Simulator]:
    """The upstream, set back afterwards."""
    before = shared_upstream.configure()
    yield shared_upstream
    shared_upstream.configure(**before)


@pytest.fixture
def own_upstream() -> Iterator[Simulator]:
    """An upstream of the test's own: its ledger holds nothing else."""
    with serve(validate_delay=0.1, batch_delay=0.3, finalize_delay=0.1) as upstream:
        yield upstream


@pytest.fixture
def api_key(request: pytest.FixtureRequest) -> str:
    """A key of the test's own: its groups, batches and idempotency keys are nobody else's."""
    return f"sk-{request.node.name}"


@pytest.fixture
def client(stack: Stack, api_key: str) -> Iterator[openai.OpenAI]:
    """The real SDK with nothing changed but its base URL."""
    with openai.OpenAI(base_url=f"{stack.url}/v1", api_key=api_key) as made:
        yield made
