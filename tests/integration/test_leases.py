"""Leases: one holder at a time, and one that is lost or over changes nothing."""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import Any

import pytest

from tasks import batches, leases, settle, store
from tasks.errors import NotOurTurn, StoreUnavailable
from tasks.models import BatchState, Lane
from tests import running
from tests.integration.accepting import GROUP, accept, make_request


@pytest.fixture(autouse=True)
def _redis(redis_client: Any) -> None:
    pass


def test_one_worker_at_a_time_holds_a_batch() -> None:
    accept(make_request())
    batch_id = batches.claim(GROUP.id)
    assert batch_id
    with (
        leases.lease(batch_id, BatchState.CLAIMED),
        pytest.raises(NotOurTurn),
        leases.lease(batch_id, BatchState.CLAIMED),
    ):
        pass


def test_a_lost_lease_changes_nothing(redis_client: Any) -> None:
    accept(make_request())
    batch_id = batches.claim(GROUP.id)
    assert batch_id
    with leases.lease(batch_id, BatchState.CLAIMED) as held:
        redis_client.hset(f"lp:batch:{batch_id}", "lease", "another")
        with pytest.raises(NotOurTurn):
            held.advance(BatchState.UPLOADING)
    assert redis_client.hget(f"lp:batch:{batch_id}", "state") == b"claimed"


def test_a_holder_whose_lease_is_over_changes_nothing_even_if_nobody_else_has_begun(redis_client: Any) -> None:
    accept(make_request())
    batch_id = batches.claim(GROUP.id)
    assert batch_id
    with leases.lease(batch_id, BatchState.CLAIMED) as held:
        redis_client.hset(f"lp:batch:{batch_id}", "lease_until", 1)
        with pytest.raises(NotOurTurn):
            held.advance(BatchState.UPLOADING)
    assert redis_client.hget(f"lp:batch:{batch_id}", "state") == b"claimed"


def test_a_batch_that_was_given_back_is_taken_by_nobody_before_its_pause_is_over(redis_client: Any) -> None:
    accept(make_request())
    batch_id = batches.claim(GROUP.id)
    assert batch_id
    with leases.lease(batch_id, BatchState.CLAIMED) as held:
        held.advance(BatchState.UPLOADING, release=True, pause_seconds=60)

    with pytest.raises(NotOurTurn), leases.lease(batch_id, BatchState.UPLOADING):
        pass
    redis_client.hset(f"lp:batch:{batch_id}", "not_before", 1)
    with leases.lease(batch_id, BatchState.UPLOADING):
        pass


def test_a_late_renewal_does_not_take_a_released_request_back(redis_client: Any) -> None:
    request = make_request(lane=Lane.SYNC)
    accept(request)
    assert store.run("run", request.id, "worker", 60_000, "take", 50)
    settle.release(request.id, "worker", 1.0)

    assert not store.run("run", request.id, "worker", 60_000, "renew", 50)
    assert redis_client.hget(f"lp:request:{request.id}", "state") == b"queued"


def test_a_moment_without_redis_does_not_interrupt_whoever_holds_a_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "RENEW_SECONDS", 0.05)
    monkeypatch.setattr(leases, "LEASE_SECONDS", 5.0)
    renewed = threading.Event()
    tries: list[int] = []

    def renew() -> bool:
        tries.append(1)
        if len(tries) == 1:
            raise StoreUnavailable("away for a moment", retry_after_seconds=1)
        renewed.set()
        return True

    with leases.renewing(renew):
        assert renewed.wait(5)


LOSING = """
from gevent import monkey; monkey.patch_all()
import time
from tasks import leases
from tasks.errors import NotOurTurn
leases.RENEW_SECONDS = 0.05
try:
    with leases.renewing(lambda: False):
        time.sleep(30)  # a call to the upstream that is under way
except NotOurTurn:
    print("stopped")
"""


def test_a_holder_whose_lease_is_lost_is_stopped_in_the_middle_of_its_call() -> None:
    """In a process of its own, patched as our workers are."""
    done = subprocess.run(
        [sys.executable, "-c", LOSING],
        capture_output=True,
        text=True,
        cwd=running.ROOT,
        env=running.environment(),
        timeout=20,
        check=True,
    )

    assert done.stdout == "stopped\n"
