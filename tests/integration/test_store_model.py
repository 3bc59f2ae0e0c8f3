"""The scripts against a model that says in a few lines of Python what they should do."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule, run_state_machine_as_test

from tasks import batches, connections, message, settle, store
from tasks.models import Group, Lane, Reply, new_id
from tests.integration.test_store import GROUP, accept, make_request

GROUPS = [GROUP, Group(credential="d" * 24, endpoint="/v1/embeddings", model="m")]


class Model(RuleBasedStateMachine):
    """Requests and batches as they should be: id -> [state, owner]."""

    ids = Bundle("ids")
    owners = Bundle("owners")

    def __init__(self) -> None:
        super().__init__()
        self.redis: Any = connections.client()
        self.redis.flushall()
        self.requests: dict[str, list[str]] = {}
        self.groups: dict[str, Group] = {}
        self.keys: dict[tuple[str, str], str] = {}
        self.accepted = self.settled = 0

    @rule(
        target=ids, group=st.sampled_from(GROUPS), key=st.sampled_from(["", "", "k1", "k2"]), lane=st.sampled_from(Lane)
    )
    def accept(self, group: Group, key: str, lane: Lane) -> str:
        request = make_request(group=group, idempotency_key=key, lane=lane)
        [got] = accept(request)
        expected = self.keys.get((group.credential, key), request.id)
        assert got == expected
        if got == request.id:
            self.accepted += 1
            self.requests[got], self.groups[got] = ["queued", ""], group
            if key:
                self.keys[group.credential, key] = got
        return got

    @rule(target=owners, group=st.sampled_from(GROUPS))
    def claim(self, group: Group) -> str:
        waiting = [
            i for i, (state, _) in self.requests.items()
            if state == "queued" and self.groups[i] == group and self.lane(i) == "batch"
        ]  # fmt: skip
        batch_id = batches.claim(group.id)
        assert bool(batch_id) == bool(waiting)
        if batch_id is None:
            return "nobody"
        assert {request_id for request_id, _ in batches.lines(batch_id)} == set(waiting)
        for request_id in waiting:
            self.requests[request_id] = ["batched", batch_id]
        return batch_id

    @rule(target=owners, request_id=ids)
    def run(self, request_id: str) -> str:
        token = new_id()
        taken = bool(store.run("run", request_id, token, 60_000, "take", 50))
        assert taken == (self.requests[request_id][0] == "queued")
        if taken:
            self.requests[request_id] = ["running", token]
        return token

    @rule(request_id=ids, owner=owners)
    def settle(self, request_id: str, owner: str) -> None:
        mine = self.requests[request_id][0] != "settled" and self.requests[request_id][1] == owner
        assert settle.settle([(request_id, owner, Reply.of_upstream(200, {}, b"{}"))]) == mine
        if mine:
            self.settled += 1
            self.requests[request_id][0] = "settled"

    @rule(request_id=ids, owner=owners)
    def requeue(self, request_id: str, owner: str) -> None:
        state, owned_by = self.requests[request_id]
        mine = state != "settled" and owned_by == owner
        queue = "sync" if self.lane(request_id) == "sync" else message.group_queue(self.groups[request_id].id)
        assert settle.requeue([request_id], owner, queue) == mine
        if mine:
            self.requests[request_id] = ["queued", ""]

    @rule(request_id=consumes(ids))
    def lose_message_and_sweep(self, request_id: str) -> None:
        for key in [*self.redis.keys("batch.*"), "sync"]:
            self.redis.delete(key)
        for waiting in self.redis.zrange("lp:standing", 0, -1):
            self.redis.zadd("lp:standing", {waiting: 0})
        before = {i: list(v) for i, v in self.requests.items()}
        store.run("standing", 1000, 1000, message.request_template(), 3)
        assert before == self.requests

    def lane(self, request_id: str) -> str:
        lane: bytes = self.redis.hget(f"lp:request:{request_id}", "lane")
        return lane.decode()

    @invariant()
    def records_agree(self) -> None:
        for request_id, (state, owner) in self.requests.items():
            record = self.redis.hmget(f"lp:request:{request_id}", "state", "owner")
            assert [value.decode() for value in record] == [state, owner]
            assert self.redis.exists(f"lp:body:{request_id}") == (state != "settled")
            assert self.redis.exists(f"celery-task-meta-{request_id}") == (state == "settled")
            looked_after = self.redis.zscore("lp:standing", request_id) is not None
            assert looked_after == (state in {"queued", "running"})

    @invariant()
    def counters_agree(self) -> None:
        counted = self.redis.hmget("lp:stats", "requests_total", "requests_successful")
        assert [int(value or 0) for value in counted] == [self.accepted, self.settled]


@pytest.mark.usefixtures("redis_client")
def test_the_scripts_do_what_the_model_says() -> None:
    run_state_machine_as_test(
        Model,
        settings=settings(
            max_examples=40, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
