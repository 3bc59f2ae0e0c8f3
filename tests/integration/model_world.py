"""What the model of the scripts knows, and what Redis must agree with after every step."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

import hypothesis.strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant

from tasks import connections, message
from tasks.models import Group, Lane
from tests.integration.accepting import GROUP
from tests.integration.model_records import Ask, Made

GROUPS = [GROUP, Group(credential="d" * 24, endpoint="/v1/embeddings", model="m")]


class World(RuleBasedStateMachine):
    """Requests, queues, groups and counters as they should be."""

    def __init__(self) -> None:
        super().__init__()
        self.redis: Any = connections.client()
        self.redis.flushall()
        self.ids: list[str] = []  # of all requests that there ever were
        self.owners = ["nobody"]  # of requests, past ones too
        self.asks: dict[str, Ask] = {}
        self.withdrawn: set[str] = set()
        self.batches: dict[str, Made] = {}
        self.queues: defaultdict[str, list[str]] = defaultdict(list)  # the oldest last, as in Redis
        self.paused: set[str] = set()  # groups
        self.keys: dict[tuple[str, str], str] = {}
        self.counters: defaultdict[str, int] = defaultdict(int)

    def some_id(self, data: st.DataObject) -> str:
        """A request, which may be anywhere on its way."""
        return str(data.draw(st.sampled_from(self.ids), "request"))

    def some_owner(self, data: st.DataObject, request_id: str) -> str:
        """The request's owner, likely: somebody else, sometimes."""
        ask = self.asks.get(request_id)
        return self.likely(data, ask.owner if ask and ask.owner else "nobody", self.owners)

    def likely(self, data: st.DataObject, right: str, others: list[str]) -> str:
        """The right one three times of four."""
        return str(data.draw(st.sampled_from([right, right, right, data.draw(st.sampled_from(others))])))

    def _has_left(self, request_id: str, ask: Ask) -> bool:
        """No message of it can be in its queue any more."""
        queue = "sync" if ask.state == "running" else ask.queue
        if not self.queues[queue]:
            return True
        properties = json.loads(self.redis.lindex(queue, -1))["properties"]
        ahead = properties.get("pushed") or self._at(properties["correlation_id"], "queued")
        return queue == "sync" and max(self._at(request_id, "queued"), self._at(request_id, "pushed")) < ahead

    def _at(self, request_id: str, name: str) -> int:
        return int(self.redis.hget(f"lp:request:{request_id}", name) or 0)

    def _waits(self, request_id: str) -> bool:
        ask = self.asks.get(request_id)
        return ask is not None and ask.state == "queued"

    def _owned(self, request_id: str, owner: str) -> Ask | None:
        ask = self.asks.get(request_id)
        return ask if ask is not None and ask.state != "settled" and ask.owner == owner else None

    @invariant()
    def requests_are_as_they_should_be(self) -> None:
        for request_id, ask in self.asks.items():
            record = self.redis.hmget(f"lp:request:{request_id}", "state", "owner", "attempts", "missing")
            assert [(value or b"0").decode() for value in record[2:]] == [str(ask.attempts), str(ask.missing)]
            assert [value.decode() for value in record[:2]] == [ask.state, ask.owner]
            assert self.redis.exists(f"lp:body:{request_id}") == (ask.state != "settled")
            assert self.redis.exists(f"celery-task-meta-{request_id}") == (ask.state == "settled")
        for request_id in self.withdrawn:
            assert not self.redis.exists(f"lp:request:{request_id}", f"lp:body:{request_id}")

    @invariant()
    def every_queued_request_is_in_its_queue_or_found_by_the_sweep(self) -> None:
        for queue, ids in self.queues.items():
            raw = self.redis.lrange(queue, 0, -1)
            assert [settle_id(text) for text in raw] == ids
        looked_after = {request_id.decode() for request_id in self.redis.zrange("lp:standing", 0, -1)}
        assert looked_after == {i for i, ask in self.asks.items() if ask.state in {"queued", "running"}}
        collected = {group.decode() for group in self.redis.zrange("lp:groups", 0, -1)}
        for group in GROUPS:
            assert group.id in collected or not self.queues[message.group_queue(group.id)]

    @invariant()
    def counters_of_groups_are_sums(self) -> None:
        for group in GROUPS:
            waiting = [
                ask.request
                for ask in self.asks.values()
                if ask.state == "queued" and ask.request.group == group and ask.request.lane is Lane.BATCH
            ]
            counted = self.redis.hmget(f"lp:group:{group.id}", "queued_bytes", "queued_inputs")
            sums = [sum(request.line_bytes for request in waiting), sum(request.inputs for request in waiting)]
            assert [int(value or 0) for value in counted] == sums

    @invariant()
    def counters_agree(self) -> None:
        counted = self.redis.hgetall("lp:stats")
        for name, expected in self.counters.items():
            assert int(counted.get(name.encode(), 0)) == expected, name


def settle_id(text: bytes) -> str:
    """The request that a message is about."""
    found = message.ID_PATTERN.search(text.decode())
    assert found
    return found[0]
