"""The scripts against a model, in any order that hypothesis thinks of."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import (
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tasks import batches, connections, message, store
from tasks.batches import Batch
from tasks.errors import NotOurTurn
from tasks.leases import Lease
from tasks.models import BatchState, new_id
from tests.integration.accepting import GROUP, accept, make_request
from tests.integration.model_records import Made
from tests.integration.store_model import LEASE_MS, NO_LIMITS, PAUSE_SECONDS, Requests

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


#: Mostly the true one (None), sometimes any.
STATES: list[BatchState | None] = [*[None] * 3 * len(NEXT), *NEXT]


class Model(Requests):
    """Batches as they should be, beside everything else."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = ["nobody"]  # of leases, past ones too

    def some_batch(self, data: st.DataObject) -> tuple[str, Made]:
        batch_id = data.draw(st.sampled_from(list(self.batches)), "batch")
        return batch_id, self.batches[batch_id]

    # Leases: one holder at a time, and nobody else changes anything.

    @precondition(lambda self: self.batches)
    @rule(data=st.data(), others=st.lists(st.sampled_from(list(NEXT)), max_size=3), right=st.booleans())
    def take(self, data: st.DataObject, others: list[BatchState], right: bool) -> None:
        batch_id, batch = self.some_batch(data)
        states = [batch.state, *others] if right and batch.state in NEXT else others or [BatchState.CLAIMED]
        token = new_id()
        free = batch.state in states and not batch.holder and not batch.paused
        assert (len(store.run("lease", batch_id, token, LEASE_MS, 0, *states)) > 1) == free
        if free:
            batch.holder = token
        self.tokens.append(token)

    @precondition(lambda self: self.batches)
    @rule(data=st.data())
    def renew(self, data: st.DataObject) -> None:
        batch_id, batch = self.some_batch(data)
        token = self.likely(data, batch.holder or "nobody", self.tokens)
        assert (len(store.run("lease", batch_id, token, LEASE_MS, 0)) > 1) == (batch.holder == token)

    @precondition(lambda self: self.batches)
    @rule(
        data=st.data(),
        release=st.booleans(),
        pause=st.sampled_from([0.0, PAUSE_SECONDS]),
        known=st.sampled_from(STATES),
    )
    def advance(self, data: st.DataObject, release: bool, pause: float, known: BatchState | None) -> None:
        batch_id, batch = self.some_batch(data)
        token = self.likely(data, batch.holder or "nobody", self.tokens)
        known = known or batch.state  # what this holder takes for its state
        following = data.draw(st.sampled_from([known, *NEXT.get(known, [])]))
        outcome = "successful" if following is BatchState.ENDED and known is not following else ""
        record = Batch(id=batch_id, state=known, group=batch.group, count=1, claimed=0)
        mine = batch.holder == token and batch.state is known
        try:
            Lease(record, token).advance(following, release=release, pause_seconds=pause, outcome=outcome, failures=1)
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

    @precondition(lambda self: self.batches)
    @rule(data=st.data())
    def lease_ends(self, data: st.DataObject) -> None:
        batch_id, batch = self.some_batch(data)
        if not batch.holder:
            return
        self.redis.hset(f"lp:batch:{batch_id}", "lease_until", 1)
        record = Batch(id=batch_id, state=batch.state, group=batch.group, count=1, claimed=0)
        with pytest.raises(NotOurTurn):  # although nobody else has begun
            Lease(record, batch.holder).advance(batch.state)
        batch.holder = ""

    @precondition(lambda self: self.batches)
    @rule(data=st.data())
    def pause_is_over(self, data: st.DataObject) -> None:
        batch_id, batch = self.some_batch(data)
        self.redis.hdel(f"lp:batch:{batch_id}", "not_before")
        batch.paused = False

    @precondition(lambda self: any(not batch.holder for batch in self.batches.values()))
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


def done(name: str, answer: Any) -> bool:
    """Whether a script has done something, by its answer."""
    if name == "lease":
        return len(answer) > 1
    return any(answer) if isinstance(answer, list) else bool(answer)


#: Scripts that the model runs, each with success and in vain.
SCRIPTS = {"accept", "withdraw", "claim", "lease", "advance", "overdue", "run", "settle", "requeue", "standing"}


@pytest.mark.usefixtures("redis_client")
@pytest.mark.timeout(300)  # quick, but every step waits for Redis on a busy machine
def test_the_scripts_do_what_the_model_says(monkeypatch: pytest.MonkeyPatch) -> None:
    met: set[tuple[str, bool]] = set()
    run = store.run

    def noting(name: str, *args: Any) -> Any:
        answer = run(name, *args)
        met.add((name, done(name, answer)))
        return answer

    monkeypatch.setattr(store, "run", noting)
    run_state_machine_as_test(
        Model,
        settings=settings(
            max_examples=25,
            stateful_step_count=50,
            deadline=None,
            derandomize=True,  # each run meets what the last assertions ask for
            suppress_health_check=list(HealthCheck),
        ),
    )

    # A model that never gets anywhere agrees with everything.
    assert {name for name, _ in met} >= SCRIPTS


@pytest.mark.usefixtures("redis_client")
def test_a_groups_counters_survive_lost_messages() -> None:
    redis: Any = connections.client()
    accept(make_request(), make_request())
    redis.delete(message.group_queue(GROUP.id))
    assert batches.claim(GROUP.id) is None
    redis.zadd("lp:standing", dict.fromkeys(redis.zrange("lp:standing", 0, -1), 1))
    assert store.run("standing", 1000, 1000, message.request_template())[0] == 2

    assert store.run("claim", GROUP.id, new_id(), 1, 1_000_000, store.EMBEDDING_INPUTS, 0, 1000, *NO_LIMITS) == 1

    assert int(redis.hget(f"lp:group:{GROUP.id}", "queued_inputs")) == 1


@pytest.mark.usefixtures("redis_client")
def test_a_request_that_is_run_from_its_groups_queue_leaves_the_groups_counters() -> None:
    redis: Any = connections.client()
    [first, _] = accept(make_request(), make_request())

    assert store.run("run", first, "by hand", LEASE_MS, "take", 50)

    assert int(redis.hget(f"lp:group:{GROUP.id}", "queued_inputs")) == 1
