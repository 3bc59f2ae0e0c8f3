"""What goes wrong: processes that die, messages that come twice, an upstream that fails."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from random import Random

import redis
from celery import Celery
from kombu.exceptions import OperationalError

from tests.running import RedisServer, Stack
from tests.simulator.server import Simulator

#: How often each kind of process dies; Redis less often, as everything stands still meanwhile.
VICTIMS = {"web": 3, "worker": 8, "beat": 2, "redis": 1}
FAULTS = [
    {"path": "*", "kind": "500", "rate": 0.03, "seed": 1},
    {"path": "*", "kind": "429", "rate": 0.03, "seed": 2, "retry_after": "1"},
    {"path": "*", "kind": "reset_before", "rate": 0.02, "seed": 3},
    {"path": "POST /v1/files", "kind": "reset_after", "rate": 0.05, "seed": 4},
    {"path": "POST /v1/batches", "kind": "reset_after", "rate": 0.05, "seed": 5},
    {"path": "GET /v1/files/*/content", "kind": "truncate", "rate": 0.1, "seed": 6},
    {"path": "*", "kind": "slow", "rate": 0.05, "seed": 7, "seconds": 0.5},
]


@dataclass
class Monkey:
    """Harms a stack until told to stop, by dice that fall alike for one seed."""

    stack: Stack
    redis: RedisServer
    upstream: Simulator
    random: Random
    deeds: Counter[str] = field(default_factory=Counter)
    failure: str = ""
    _done: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Do harm; what dies is started again, as a supervisor would."""
        keeper = threading.Thread(target=self._keep, daemon=True)
        keeper.start()
        try:
            while not self._done.wait(self.random.uniform(0.3, 2.5)):
                self._harm()
        except Exception as error:
            self.failure = repr(error)  # a monkey that does nothing proves nothing
        self._done.wait()
        keeper.join()

    def stop(self) -> None:
        """No more harm."""
        self._done.set()

    def _keep(self) -> None:
        while not self._done.wait(0.1):
            self.start_dead()

    def start_dead(self) -> None:
        """Start what has died."""
        for name in self.stack.dead():
            with contextlib.suppress(AssertionError):  # it was killed again before it was ready
                self.stack.start(name)

    def _harm(self) -> None:
        kind = self.random.choices([*VICTIMS, "doubles"], weights=[*VICTIMS.values(), 4])[0]
        self.deeds[kind] += 1
        if kind == "redis":
            self.redis.kill()
            time.sleep(self.random.uniform(0, 2))
            self.redis.start()
        elif kind == "doubles":
            self._double_messages()
        elif kind == "web":
            self.stack.kill_worker_of_web()
        else:
            names = sorted(name for name in self.stack.processes if name.startswith(kind))
            victim = self.stack.processes[self.random.choice(names)]
            victim.kill()

    def _double_messages(self) -> None:
        """Ticks and stages that nobody asked for, of batches at random."""
        app = Celery("monkey", set_as_current=False, broker=self.redis.config.celery_redis, backend="disabled://")
        with contextlib.suppress(redis.RedisError, OperationalError):
            batches = self.redis.client.zrange("lp:batches", 0, -1)
            for name, queue in (("tasks.collect", "collect"), ("tasks.sweep", "control")):
                app.send_task(name, queue=queue, retry=False)
            for batch in self.random.sample(batches, min(3, len(batches))):
                stage, queue = self.random.choice([("submit", "submit"), ("poll", "control"), ("deliver", "deliver")])
                app.send_task(f"tasks.{stage}", args=[batch.decode()], queue=queue, retry=False)
