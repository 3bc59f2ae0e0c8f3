"""A model that says in a few lines of Python what the scripts should do with requests and their queues.

Time is a rule, too: a lease ends, a pause is over, the sweep's hour has come, when hypothesis says so.
"""

from __future__ import annotations

import time
from typing import Any

import hypothesis.strategies as st
from hypothesis.stateful import initialize, precondition, rule

from tasks import batches, message, settle, store
from tasks.models import Group, Lane, Reply, new_id
from tests.integration.accepting import accept, make_request
from tests.integration.model_records import Ask, Made
from tests.integration.model_world import GROUPS, World

#: Arguments of claim.lua that stand in nobody's way: age, batches an hour, hour, batches under validation.
NO_LIMITS = (10**10, 10**6, 3_600_000, 10**6)
LEASE_MS = 60_000
PAUSE_SECONDS = 60.0
OK = Reply.of_upstream(200, {}, b"{}")


def _a_moment_later() -> None:
    """No two pushes in one millisecond: whose was first would be chance, and nobody's fault."""
    time.sleep(0.002)


class Requests(World):
    """What may happen to requests; batches are claimed, and all else about them is for a subclass."""

    # Requests come, are taken back, and come twice.

    @initialize(lanes=st.lists(st.sampled_from([Lane.BATCH, Lane.BATCH, Lane.SYNC]), min_size=3, max_size=6))
    def begin(self, lanes: list[Lane]) -> None:
        """Without requests nothing can happen."""
        for n, lane in enumerate(lanes):
            self.accept(GROUPS[n % 2], "", lane, 100 * n + 1, 1)

    @rule(
        group=st.sampled_from(GROUPS),
        key=st.sampled_from(["", "", "k1", "k2"]),
        lane=st.sampled_from(Lane),
        size=st.integers(1, 400),
        inputs=st.integers(1, 3),
    )
    def accept(self, group: Group, key: str, lane: Lane, size: int, inputs: int) -> None:
        _a_moment_later()
        # Equal ones would be taken for each other's retries where the machine stands still for ten seconds.
        shape: dict[str, Any] = {"group": group, "lane": lane, "body": b"x" * size, "inputs": inputs}
        request = make_request(idempotency_key=key, fingerprint="f1" if key else new_id(), **shape)
        original = self.keys.get((group.credential, key))
        [got] = accept(request)
        assert got == (original or request.id)
        if original:
            self.asks[original].attached = True
            return
        ask = self.asks[request.id] = Ask(request)
        self.queues[ask.queue].insert(0, request.id)
        self.counters["requests_total"] += 1
        if key:
            self.keys[group.credential, key] = request.id
        self.ids.append(request.id)

    @rule(data=st.data())
    def withdraw(self, data: st.DataObject) -> None:
        request_id = self.some_id(data)
        ask = self.asks.get(request_id)
        mine = ask is not None and ask.state == "queued" and not ask.attached
        assert store.run("withdraw", "requests_total", request_id) == mine
        if ask is not None and mine:  # its message stays where it is
            del self.asks[request_id]
            self.withdrawn.add(request_id)
            self.keys = {key: id_ for key, id_ in self.keys.items() if id_ != request_id}
            self.counters["requests_total"] -= 1

    @rule(data=st.data())
    def double_message(self, data: st.DataObject) -> None:
        request_id = self.some_id(data)
        if ask := self.asks.get(request_id):
            self.redis.lpush(ask.queue, message.request_message(request_id, ask.queue))
            self.redis.zadd("lp:groups", {ask.request.group.id: 1}, nx=True)
            self.queues[ask.queue].insert(0, request_id)

    # Batches are claimed.

    @rule(group=st.sampled_from(GROUPS), most=st.integers(1, 3), most_bytes=st.integers(200, 1500))
    def claim(self, group: Group, most: int, most_bytes: int) -> None:
        if not self.queues[message.group_queue(group.id)]:  # rather one where something waits
            [group] = [other for other in GROUPS if other is not group]
        batch_id = new_id()
        queue = self.queues[message.group_queue(group.id)]
        taken: list[str] = []
        size = 0
        allowed = not queue or group.id not in self.paused
        while queue and not self._waits(queue[-1]):
            queue.pop()
        while allowed and queue and len(taken) < most:
            if self._waits(queue[-1]):
                ask = self.asks[queue[-1]]
                if taken and size + ask.request.line_bytes > most_bytes:
                    break
                taken.append(queue[-1])
                size += ask.request.line_bytes
                ask.state, ask.owner = "batched", batch_id
            queue.pop()
        if allowed and not queue:
            self.paused.discard(group.id)

        arguments = (group.id, batch_id, most, most_bytes, store.EMBEDDING_INPUTS, 0, 1000, *NO_LIMITS)
        assert store.run("claim", *arguments) == len(taken)
        assert [request_id for request_id, _ in batches.lines(batch_id)] == taken
        if taken:
            assert store.run("claim", *arguments) == len(taken)  # again, as after a lost answer
            self.batches[batch_id] = Made(group)
            self.counters["batches_total"] += 1
            self.owners.append(batch_id)

    @rule(group=st.sampled_from(GROUPS))
    def pause_of_a_group_is_over(self, group: Group) -> None:
        self.redis.hdel(f"lp:group:{group.id}", "not_before")
        self.paused.discard(group.id)

    # Requests are sent, settled, queued again, lost and found.

    @rule(data=st.data())
    def run(self, data: st.DataObject) -> None:
        request_id, token = self.some_id(data), new_id()
        ask = self.asks.get(request_id)
        if ask is not None and ask.request.lane is Lane.BATCH:
            return  # by hand only: see the test below
        abandoned = ask is not None and ask.state == "running" and ask.lease_over
        free = ask is not None and (ask.state == "queued" or abandoned)
        assert bool(store.run("run", request_id, token, LEASE_MS, "take", 1000)) == free
        if ask is not None and free:
            ask.attempts += abandoned
            self.counters["possibly_double_paid"] += abandoned and ask.sent
            ask.state, ask.owner, ask.lease_over, ask.sent = "running", token, False, False
            self.owners.append(token)

    @rule(data=st.data(), what=st.sampled_from(["renew", "send"]))
    def renew_run(self, data: st.DataObject, what: str) -> None:
        request_id = self.some_id(data)
        owner = self.some_owner(data, request_id)
        ask = self.asks.get(request_id)
        mine = ask is not None and ask.state == "running" and ask.owner == owner
        assert bool(store.run("run", request_id, owner, LEASE_MS, what, 1000)) == mine
        if ask is not None and mine:
            ask.lease_over = False
            ask.sent = ask.sent or what == "send"

    @rule(data=st.data())
    def sender_dies(self, data: st.DataObject) -> None:
        request_id = self.some_id(data)
        ask = self.asks.get(request_id)
        if ask is not None and ask.state == "running":
            self.redis.hset(f"lp:request:{request_id}", "lease_until", 1)
            ask.lease_over = True

    @rule(data=st.data())
    def settle(self, data: st.DataObject) -> None:
        request_id = self.some_id(data)
        owner = self.some_owner(data, request_id)
        ask = self._owned(request_id, owner)
        assert settle.settle([(request_id, owner, OK)]) == (ask is not None)
        if ask is not None:
            ask.state = "settled"
            self.counters["requests_successful"] += 1

    @rule(
        data=st.data(),
        counter=st.sampled_from(["", "attempts", "missing"]),
        delay=st.sampled_from([0.0, PAUSE_SECONDS]),
    )
    def requeue(self, data: st.DataObject, counter: str, delay: float) -> None:
        request_id = self.some_id(data)
        owner = self.some_owner(data, request_id)
        ask = self._owned(request_id, owner)
        queue = ask.queue if ask else "sync"
        done = settle.requeue([request_id], owner, queue, counter=counter, delay_seconds=delay)
        assert done == (ask is not None)
        if ask is not None:
            self._queued(ask, counter)
            waiting = self.queues[queue]
            waiting.insert(0 if queue == "sync" else len(waiting), request_id)
            if delay and ask.request.lane is Lane.BATCH:
                self.paused.add(ask.request.group.id)

    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        """Its message is under way with a countdown: it is in no queue."""
        request_id = self.some_id(data)
        owner = self.some_owner(data, request_id)
        ask = self._owned(request_id, owner)
        if ask is not None and ask.state == "running":
            settle.release(request_id, owner, 1.0)
            self._queued(ask, "attempts")

    @rule(queue=st.sampled_from(["sync", *(message.group_queue(group.id) for group in GROUPS)]))
    def lose_messages(self, queue: str) -> None:
        """A worker took them with it. (Between loss and sweep nothing is claimed: see the test below.)"""
        self.redis.delete(queue)
        self.queues[queue].clear()
        if queue != "sync":
            self.sweep_requests()

    @precondition(lambda self: any(ask.state in {"queued", "running"} for ask in self.asks.values()))
    @rule()
    def sweep_requests(self) -> None:
        """Time has passed: what is in no queue is found, what was being sent goes to the synchronous lane."""
        _a_moment_later()
        for request_id in self.redis.zrange("lp:standing", 0, -1):
            self.redis.zadd("lp:standing", {request_id: 1})
        sent = {i for i, ask in self.asks.items() if ask.state == "running"}
        lost = {i for i, ask in self.asks.items() if ask.state in {"queued", "running"} and self._has_left(i, ask)}

        found = [i.decode() for i in store.run("standing", 1000, 1000, message.request_template())[1:]]

        assert set(found) == lost
        for request_id in found:
            self.queues["sync" if request_id in sent else self.asks[request_id].queue].insert(0, request_id)

    def _queued(self, ask: Ask, counter: str) -> None:
        _a_moment_later()
        ask.state, ask.owner = "queued", ""
        ask.attempts += counter == "attempts"
        ask.missing += counter == "missing"
        self.counters["requests_requeued"] += 1
