"""Batches in the hands of a test: each stage is called in this process, without worker or front."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import requests

from tasks import batches, delivery, polling, settings, settle, store, submission
from tasks.models import Group, Reply, Request
from tasks.providers import catalogue
from tests.integration.accepting import accept
from tests.running import until
from tests.simulator.server import Simulator, serve

HOUR_MS = 3_600_000


@dataclass
class Line:
    """One pipeline with one upstream, and the clock of its records."""

    redis: Any
    upstream: Simulator
    requests: list[Request] = field(default_factory=list)

    def accept(self, count: int, model: str = "m", max_wait_seconds: float = 0.0) -> Group:
        """Accept requests; returns their group."""
        group = Group(
            credential="c" * 24, endpoint="/v1/chat/completions", model=model, max_wait_seconds=max_wait_seconds
        )
        numbers = range(len(self.requests), len(self.requests) + count)
        made = [
            Request(group=group, body=_body(model, f"q{n}"), fingerprint=f"f{n}", idempotency_key=f"{n}")
            for n in numbers
        ]
        accept(*made)
        self.requests += made
        return group

    def claim(self, count: int = 2, model: str = "m", max_wait_seconds: float = 0.0) -> str:
        """Accept requests and close them into a batch."""
        return self.close(self.accept(count, model, max_wait_seconds))

    def close(self, group: Group) -> str:
        """Close what is queued of a group into a batch."""
        self.redis.hdel(f"lp:group:{group.id}", "not_before")
        batch_id = batches.claim(group.id)
        assert batch_id
        return batch_id

    def record(self, batch_id: str) -> dict[str, str]:
        """A batch as it is written down."""
        return {k.decode(): v.decode() for k, v in self.redis.hgetall(f"lp:batch:{batch_id}").items()}

    def request(self, number: int) -> dict[str, str]:
        """A request as it is written down."""
        found = self.redis.hgetall(f"lp:request:{self.requests[number].id}")
        return {k.decode(): v.decode() for k, v in found.items()}

    def hurry(self, batch_id: str) -> None:
        """Its pause is over."""
        self.redis.hdel(f"lp:batch:{batch_id}", "not_before")

    def age(self, batch_id: str, hours: float) -> None:
        """Everything of it happened so much earlier."""
        ago = int(hours * HOUR_MS)
        self.redis.hincrby(f"lp:batch:{batch_id}", "oldest", -ago)
        for request in self.requests:
            self.redis.hincrby(f"lp:request:{request.id}", "accepted", -ago)

    def submit(self, batch_id: str) -> float | None:
        """One step of submission."""
        self.hurry(batch_id)
        return submission.submit(batch_id)

    def poll(self, batch_id: str) -> float | None:
        """One look."""
        self.hurry(batch_id)
        return polling.poll(batch_id)

    def deliver(self, batch_id: str) -> float | None:
        """One step of delivery."""
        self.hurry(batch_id)
        return delivery.deliver(batch_id)

    def end(self, batch_id: str) -> None:
        """From its claim to its end at the upstream."""
        assert self.submit(batch_id) is None
        until(lambda: self.poll(batch_id) is None, "the batch has ended")

    def stuck(self, status: str = "in_progress", **more: object) -> str:
        """A submitted batch that stays in a status of the upstream."""
        self.upstream.configure(ends=[{"stuck": status, **more}])
        batch_id = self.claim()
        assert self.submit(batch_id) is None
        return batch_id

    def deliver_ended(self, batch_id: str) -> None:
        """Delivery of a batch that is just being cancelled."""
        until(lambda: self.poll(batch_id) is None, "the batch has ended")
        self.deliver_all(batch_id)

    def deliver_all(self, batch_id: str) -> None:
        """Delivery, however often it takes a look."""
        until(lambda: self.deliver(batch_id) is None, "the batch is delivered")

    def replies(self) -> list[Reply | None]:
        """What each request was answered."""
        stored = [self.redis.get(store.RESULT_PREFIX + request.id) for request in self.requests]
        return [settle.decode(one, r.id) if one else None for one, r in zip(stored, self.requests, strict=True)]

    def statuses(self) -> list[int]:
        """The status of each answer, 0 where there is none."""
        return [reply.status if reply else 0 for reply in self.replies()]

    def created(self) -> int:
        """How many batches the upstream has made."""
        url, headers = f"{self.upstream.base_url}/batches", {"Authorization": "Bearer sk-x"}
        return len(requests.get(url, headers=headers, timeout=10).json()["data"])

    def bodies(self) -> list[str]:
        """The body of each answer, empty where there is none."""
        return [reply.body.decode() if reply else "" for reply in self.replies()]

    def calls(self, route: str) -> int:
        """How often the upstream was called so."""
        return int(self.upstream.stats()["calls"].get(route, 0))

    def counter(self, name: str) -> int:
        """A figure of /stats."""
        return int(self.redis.hget("lp:stats", name) or 0)


def _body(model: str, text: str) -> bytes:
    return b'{"model":"%s","messages":[{"role":"user","content":"%s"}]}' % (model.encode(), text.encode())


@pytest.fixture(scope="session")
def _quick_upstream() -> Iterator[Simulator]:
    with serve(validate_delay=0, batch_delay=0, finalize_delay=0, cancel_delay=0) as upstream:
        yield upstream


@pytest.fixture
def line(redis_client: Any, _quick_upstream: Simulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[Line]:
    """A pipeline whose upstream needs no time."""
    before = _quick_upstream.configure()
    _quick_upstream.reset()
    monkeypatch.setenv("LLM_PROXY_UPSTREAM", _quick_upstream.url)
    settings.settings.cache_clear()
    catalogue.providers.cache_clear()
    yield Line(redis_client, _quick_upstream)
    catalogue.providers.cache_clear()
    _quick_upstream.configure(**before)
