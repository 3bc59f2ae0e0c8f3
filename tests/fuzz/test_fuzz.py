"""A short seeded piece of `make fuzz`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import requests
from hypothesis import HealthCheck, given, settings

from tests import running
from tests.fuzz import webhook
from tests.fuzz.targets import PURE
from tests.ports import free_port
from tests.running import RedisServer, Stack
from web.openapi import PATHS

SHORT = settings(
    max_examples=100, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
)


@pytest.fixture(scope="module")
def front(redis_server: RedisServer) -> Iterator[Stack]:
    upstream = f"http://127.0.0.1:{free_port()}"  # nobody: what were relayed would be a 502
    with running.running_stack(
        redis_server.url, upstream, only=("web",), LLM_PROXY_WEBHOOK_SECRETS=webhook.SECRET
    ) as stack:
        yield stack


@pytest.mark.parametrize("name", PURE)
def test_random_input_is_read_or_refused(name: str) -> None:
    target, strategies = PURE[name]

    SHORT(given(**strategies)(target))()


def test_random_events_are_taken_or_refused(front: Stack) -> None:
    with requests.Session() as session:
        SHORT(given(**webhook.STRATEGIES)(webhook.target(session, front.url)))()


def test_every_endpoint_of_ours_is_described(front: Stack) -> None:
    described = requests.get(f"{front.url}/openapi.json", timeout=10).json()["paths"]
    assert described.keys() == PATHS.keys()
    for path, methods in described.items():
        for method in methods:
            assert requests.request(method, front.url + path, timeout=10).status_code in (200, 401), path
