"""The scripts against a model, in any order that hypothesis thinks of."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import Bundle, invariant, rule, run_state_machine_as_test

from tasks import batches, connections, message, store
from tasks.batches import Batch
from tasks.errors import NotOurTurn
from tasks.leases import Lease
from tasks.models import BatchState, new_id
from tests.integration.store_model import LEASE_MS, NO_LIMITS, PAUSE_SECONDS, Requests
from tests.integration.test_store import GROUP, accept, make_request

#: The way of a batch, and the turns that it may take.
NEXT = {
    BatchState.CLAIMED: [BatchState.UPLOADING],
    BatchState.UPLOADING: [BatchState.CREATING, BatchState.ENDED],
    BatchState.CREATING: [BatchState.SUBMITTED, BatchState.UPLOADING, BatchState.ENDED],
    BatchState.SUBMITTED: [BatchState.ENDED],
    BatchState.ENDED: [BatchState.DELIVERING],
    BatchState.DELIVERING: [BatchState.CLEANING],
    BatchState.CLEANING: [BatchState.DONE],
}


class Model(Requests):
    """Batches as they should be, beside everything else."""

    made = Requests.made
    tokens = Bundle("tokens")

    # Leases: one holder at a time, and nobody else changes anything.

    @rule(target=tokens, batch_id=made, states=st.lists(st.sampled_from(list(NEXT)), min_size=1, max_size=4))
    def take(self, batch_id: str, states: list[BatchState]) -> tuple[str, str]:
        token, batch = new_id(), self.batches.get(batch_id)
        free = batch is not None and batch.state in states and not batch.holder and not batch.paused
        assert (len(store.run("lease", batch_id, token, LEASE_MS, 0, *states)) > 1) == free
        if batch is not None and free:
            batch.holder = token
        return batch_id, token

    @rule(lease=tokens)
    def renew(self, lease: tuple[str, str]) -> None:
        batch_id, token = lease
        batch = self.batches.get(batch_id)
        assert (len(store.run("lease", batch_id, token, LEASE_MS, 0)) > 1) == (
            batch is not None and batch.holder == token
        )

    @rule(lease=tokens, data=st.data(), release=st.booleans(), pause=st.sampled_from([0.0, PAUSE_SECONDS]))
    def advance(self, lease: tuple[str, str], data: st.DataObject, release: bool, pause: float) -> None:
        batch_id, token = lease
        batch = self.batches.get(batch_id)
        if batch is None:
            return
        known = data.draw(st.sampled_from(BatchState))  # what this holder takes for its state
        known = batch.state if data.draw(st.booleans()) else known
        following = data.draw(st.sampled_from([known, *NEXT.get(known, [])]))
        outcome = "successful" if following is BatchState.ENDED and known is not following else ""
        held = Lease(Batch(id=batch_id, state=known, group=batch.group, count=1, claimed=0), token)
        mine = bool(batch.holder) and batch.holder == token and batch.state is known
        try:
            held.advance(following, release=release, pause_seconds=pause, outcome=outcome, failures=1)
        except NotOurTurn:
            assert not mine
            return
        assert mine
        batch.state = following
        self.counters["batches_successful"] += bool(outcome)
        if release or following is BatchState.DONE:
            batch.holder, batch.paused = "", bool(pause) and following is not BatchState.DONE
        if release and following is not BatchState.DONE:  # the next step begins when its pause is over
            successor = new_id()
            taken = len(store.run("lease", batch_id, successor, LEASE_MS, 0, following)) > 1
            assert taken == (not batch.paused)
            batch.holder = successor if taken else ""

    @rule(lease=tokens)
    def lease_ends(self, lease: tuple[str, str]) -> None:
        batch_id, token = lease
        if batch := self.batches.get(batch_id):
            if batch.holder:
                self.redis.hset(f"lp:batch:{batch_id}", "lease_until", 1)
            batch.holder = ""
            record = Batch(id=batch_id, state=batch.state, group=batch.group, count=1, claimed=0)
            with pytest.raises(NotOurTurn):  # although nobody else has begun
                Lease(record, token).advance(batch.state)

    @rule(batch_id=made)
    def pause_is_over(self, batch_id: str) -> None:
        if batch := self.batches.get(batch_id):
            self.redis.hdel(f"lp:batch:{batch_id}", "not_before")
            batch.paused = False

    @rule()
    def sweep_batches(self) -> None:
        """Time has passed: whatever nobody holds is handed out, once; what is held is not."""
        for batch_id, batch in self.batches.items():
            if not batch.holder and batch.state is not BatchState.DONE:
                self.redis.zadd("lp:batches", {batch_id: 1}, xx=True)
        idle = {
            (batch_id, batch.state)
            for batch_id, batch in self.batches.items()
            if not batch.holder and batch.state is not BatchState.DONE
        }
        assert set(batches.overdue()) == idle
        assert batches.overdue() == []

    @invariant()
    def batches_are_as_they_should_be(self) -> None:
        watched = {batch_id.decode() for batch_id in self.redis.zrange("lp:batches", 0, -1)}
        assert watched == {i for i, batch in self.batches.items() if batch.state is not BatchState.DONE}
        for batch_id, batch in self.batches.items():
            assert self.redis.hget(f"lp:batch:{batch_id}", "state").decode() == batch.state
            done = batch.state is BatchState.DONE
            assert self.redis.exists(f"lp:lines:{batch_id}") == (not done)
            assert (self.redis.ttl(f"lp:batch:{batch_id}") > 0) == done


@pytest.mark.usefixtures("redis_client")
@pytest.mark.timeout(300)  # quick, but every step waits for Redis on a busy machine
def test_the_scripts_do_what_the_model_says() -> None:
    run_state_machine_as_test(
        Model,
        settings=settings(
            max_examples=50, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )


@pytest.mark.usefixtures("redis_client")
def test_a_groups_counters_survive_lost_messages() -> None:
    redis: Any = connections.client()
    accept(make_request(), make_request())
    redis.delete(message.group_queue(GROUP.id))
    assert batches.claim(GROUP.id) is None
    redis.zadd("lp:standing", dict.fromkeys(redis.zrange("lp:standing", 0, -1), 1))
    assert len(store.run("standing", 1000, 1000, message.request_template(), 10**6)) == 2

    assert store.run("claim", GROUP.id, new_id(), 1, 1_000_000, store.EMBEDDING_INPUTS, 0, 1000, *NO_LIMITS) == 1

    assert int(redis.hget(f"lp:group:{GROUP.id}", "queued_inputs")) == 1


@pytest.mark.usefixtures("redis_client")
def test_a_request_that_is_run_from_its_groups_queue_leaves_the_groups_counters() -> None:
    redis: Any = connections.client()
    [first, _] = accept(make_request(), make_request())

    assert store.run("run", first, "by hand", LEASE_MS, "take", 50)

    assert int(redis.hget(f"lp:group:{GROUP.id}", "queued_inputs")) == 1
