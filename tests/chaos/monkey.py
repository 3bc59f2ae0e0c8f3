"""What goes wrong: processes that die, messages that come twice or late, an upstream that fails."""

from __future__ import annotations

import contextlib
import json
import threading
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field
from random import Random
from typing import Any

import redis
from celery import Celery
from kombu.exceptions import OperationalError

from tasks import message
from tests.chaos import features
from tests.chaos.probe import Probe
from tests.ground import Ground
from tests.simulator import webhooks

#: How often each kind of process dies; Redis less often, as everything stands still meanwhile.
VICTIMS = {"web": 3, "worker": 8, "beat": 2, "redis": 1}
DEEDS = {**VICTIMS, "doubles": 4} | ({"webhooks": 4} if features.WEBHOOKS else {})
FAULTS: list[dict[str, Any]] = [
    {"path": "*", "kind": "500", "rate": 0.03},
    {"path": "*", "kind": "429", "rate": 0.03, "retry_after": "1"},
    {"path": "*", "kind": "reset_before", "rate": 0.02},
    {"path": "POST /v1/files", "kind": "reset_after", "rate": 0.05},
    {"path": "POST /v1/batches", "kind": "reset_after", "rate": 0.05},
    {"path": "GET /v1/files/*/content", "kind": "truncate", "rate": 0.1},
    {"path": "GET /v1/files/*/content", "kind": "dribble", "rate": 0.1, "seconds": 0.2},
    {"path": "*", "kind": "slow", "rate": 0.05, "seconds": 0.5},
    *([{"path": "POST /v1/batches/*/cancel", "kind": "reset_after", "rate": 0.3}] if features.CANCELS else []),
]
STAGES = (("submit", "submit"), ("poll", "control"), ("deliver", "deliver"))
REMEMBERED = 300


@dataclass
class Monkey:
    """Harms a stack until told to stop, by dice that fall alike for one seed."""

    ground: Ground
    random: Random
    probe: Probe
    deeds: Counter[str] = field(default_factory=Counter)
    failure: str = ""
    _web_killed: float = 0.0
    _done: threading.Event = field(default_factory=threading.Event)
    _batches: dict[str, None] = field(default_factory=dict)  # seen so far, done ones too
    _requests: dict[str, None] = field(default_factory=dict)

    def run(self) -> None:
        """Do harm."""
        try:
            while not self._done.wait(self.random.uniform(0.3, 2.5)):
                self._harm()
        except Exception as error:
            self.failure = repr(error)  # a monkey that does nothing proves nothing

    def stop(self) -> None:
        """No more harm."""
        self._done.set()

    def _harm(self) -> None:
        kind = self.random.choices(list(DEEDS), weights=list(DEEDS.values()))[0]
        if kind == "web" and self.probe.seen <= self._web_killed:
            kind = "worker"  # a front that is killed before it has begun to serve proves nothing more
        self.deeds[kind] += 1
        if kind == "redis":
            self.ground.redis.kill()
            time.sleep(self.random.uniform(0, 2))
            self.ground.redis.start()
        elif kind == "doubles":
            with contextlib.suppress(redis.RedisError, OperationalError):
                self._look()
                self._double_stages()
                self._double_requests()
        elif kind == "webhooks":
            self._webhooks()
        elif kind == "web":
            self.ground.stack.kill_worker_of_web()
            self._web_killed = time.time()
        else:
            processes = dict(self.ground.stack.processes)
            processes[self.random.choice(sorted(name for name in processes if name.startswith(kind)))].kill()

    def _look(self) -> None:
        """Remember what there is, so that a message can come long after its time."""
        client = self.ground.redis.client
        for known, key in ((self._batches, "lp:batches"), (self._requests, "lp:standing")):
            found = [member.decode() for member in client.zrange(key, 0, -1)]
            for id_ in self.random.sample(found, min(20, len(found))):
                known[id_] = None
            while len(known) > REMEMBERED:
                del known[next(iter(known))]

    def _some(self, known: dict[str, None], most: int) -> list[str]:
        return self.random.sample(list(known), min(most, len(known)))

    def _double_stages(self) -> None:
        """Ticks and stages that nobody asked for, of batches at random, done ones too."""
        broker = self.ground.redis.config.celery_redis
        with Celery("monkey", set_as_current=False, broker=broker, backend="disabled://") as app:
            for name, queue in (("tasks.collect", "collect"), ("tasks.sweep", "control")):
                app.send_task(name, queue=queue, retry=False)
            for batch in self._some(self._batches, 5):
                stage, queue = self.random.choice(STAGES)
                app.send_task(f"tasks.{stage}", args=[batch], queue=queue, retry=False)

    def _double_requests(self) -> None:
        """Messages of requests that have been dealt with, or are in their queue already."""
        client = self.ground.redis.client
        for request_id in self._some(self._requests, 5):
            lane, group = client.hmget(f"lp:request:{request_id}", "lane", "group")
            if lane == b"sync":
                client.lpush("sync", message.request_message(request_id, "sync"))
            elif group:
                queue = message.group_queue(group.decode())
                with client.pipeline() as pipeline:
                    pipeline.lpush(queue, message.request_message(request_id, queue))
                    pipeline.zadd("lp:groups", {group: time.time() * 1000}, nx=True)  # somebody must look there
                    pipeline.execute()

    def _webhooks(self) -> None:
        """Events that come twice, long after their time, of batches that nobody knows, and forged ones."""
        url = self.ground.stack.url + features.WEBHOOK_PATH
        ended = [batch for batch in self.ground.upstream.stats()["batches"] if batch["ended_at"]]
        known = [str(batch["id"]) for batch in self.random.sample(ended, min(3, len(ended)))]
        for batch_id in [*known, *known, "batch_unknown"]:
            webhooks.post(url, features.WEBHOOK_SECRET, f"evt_{batch_id}", _event(batch_id))
        if webhooks.post(url, "whsec_Zm9yZ2Vk", f"evt_{uuid.uuid4().hex}", _event("batch_forged")):
            raise AssertionError("a forged webhook was taken")


def _event(batch_id: str) -> bytes:
    event = {"id": f"evt_{batch_id}", "object": "event", "created_at": int(time.time()), "type": "batch.completed"}
    return json.dumps({**event, "data": {"id": batch_id}}).encode()
