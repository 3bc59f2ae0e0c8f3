"""One synchronous call step by step: what is known to have been sent, and what certainly was not."""

from __future__ import annotations

from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from tasks import settle, store, sync
from tasks.errors import NotOurTurn, StoreUnavailable
from tasks.models import Lane, Request
from tasks.providers import registry
from tests.integration.accepting import accept, make_request, ok


@pytest.fixture
def request_(redis_client: Any) -> Request:
    """A request of the synchronous lane."""
    made = make_request(lane=Lane.SYNC)
    accept(made)
    return made


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The bodies that the upstream is sent."""
    bodies: list[bytes] = []

    def send(body: bytes, seconds: float) -> object:
        bodies.append(body)
        return ok()

    monkeypatch.setattr(registry, "upstream", lambda group: SimpleNamespace(send=send))
    return bodies


def dies(redis_client: Any, request: Request) -> None:
    """Its worker's lease runs out."""
    redis_client.hset(f"lp:request:{request.id}", "lease_until", 1)


def cut_short(redis_client: Any, request: Request, module: ModuleType, step: str, error: BaseException) -> None:
    """One that is sent comes as far as a step, and its worker dies there."""

    def failing(*args: Any) -> Any:
        raise error

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, step, failing)
        with pytest.raises(type(error)):
            sync.send(request.id)
    dies(redis_client, request)


def doubted(redis_client: Any) -> int:
    return int(redis_client.hget("lp:stats", "possibly_double_paid") or 0)


def test_what_was_not_sent_before_its_worker_died_has_not_been_paid(
    redis_client: Any, request_: Request, sent: list[bytes]
) -> None:
    cut_short(redis_client, request_, store, "now_ms", StoreUnavailable("gone", retry_after_seconds=20))

    assert sync.send(request_.id) is None

    assert len(sent) == 1
    assert doubted(redis_client) == 0


def test_what_may_have_been_sent_when_its_worker_died_may_have_been_paid_twice(
    redis_client: Any, request_: Request, sent: list[bytes]
) -> None:
    cut_short(redis_client, request_, settle, "settle", SystemExit())

    assert sync.send(request_.id) is None

    assert len(sent) == 2
    assert doubted(redis_client) == 1


def test_a_worker_whose_lease_has_run_out_meanwhile_sends_nothing(
    redis_client: Any, request_: Request, sent: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    upstream = registry.upstream

    def slow(group: Any) -> Any:
        dies(redis_client, request_)
        assert store.run("run", request_.id, "another worker", 60_000, "take", 50)
        return upstream(group)

    monkeypatch.setattr(registry, "upstream", slow)

    with pytest.raises(NotOurTurn):
        sync.send(request_.id)

    assert sent == []


def test_a_request_whose_body_is_gone_is_told_so_and_nothing_is_sent(
    redis_client: Any, request_: Request, sent: list[bytes]
) -> None:
    redis_client.delete(f"lp:body:{request_.id}")

    assert sync.send(request_.id) is None

    reply = settle.decode(redis_client.get(store.RESULT_PREFIX + request_.id), request_.id)
    assert reply.status == 502
    assert b"body_lost" in reply.body
    assert sent == []
