"""What is done while a process is killed: small runs that together pass every step of the pipeline."""

from __future__ import annotations

import concurrent.futures
import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from tests import running
from tests.running import RedisServer, Stack, until
from tests.simulator.server import Simulator, serve

PATIENCE_SECONDS = 60.0


@dataclass
class Ground:
    """A stack with hooks on its doors; what dies is started again, as a supervisor would."""

    stack: Stack
    upstream: Simulator
    redis: RedisServer
    directory: Path
    _done: threading.Event = field(default_factory=threading.Event)

    def keep(self) -> None:
        """Start what has died, until told to stop."""
        while not self._done.wait(0.05):
            for name in self.stack.dead():
                self.stack.start(name)

    def leave(self) -> None:
        """Stop keeping."""
        self._done.set()

    def arm(self, point: str) -> None:
        """Let the process that passes the point die there."""
        (self.directory / "fired").unlink(missing_ok=True)
        draft = self.directory / "draft"
        draft.write_text(point)
        draft.rename(self.directory / "armed")

    @property
    def fired(self) -> bool:
        """Whether a process has died at the armed point."""
        return (self.directory / "fired").exists()

    def record(self) -> None:
        """Forget the points seen so far."""
        (self.directory / "seen").write_text("")

    def seen(self) -> set[str]:
        """The points passed since `record`."""
        return set((self.directory / "seen").read_text().splitlines())

    def ask(self, content: str, model: str, **headers: str) -> requests.Response:
        """A client that does what SDKs do: it comes again, under the same Idempotency-Key."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                answer = requests.post(
                    f"{self.stack.url}/v1/chat/completions",
                    json={"model": model, "messages": [{"role": "user", "content": content}]},
                    headers={"Authorization": "Bearer sk-faults", "Idempotency-Key": content, **headers},
                    timeout=PATIENCE_SECONDS,
                )
                if answer.status_code != 503 or time.monotonic() > deadline:
                    return answer
            except requests.ConnectionError:
                if time.monotonic() > deadline:
                    raise
            time.sleep(0.1)  # a client's own back-off

    def all_right(self, prefix: str, model: str, count: int, **headers: str) -> None:
        """Ask several questions at once; each gets its own answer."""
        questions = [f"{prefix} {n}" for n in range(count)]
        with concurrent.futures.ThreadPoolExecutor(count) as pool:
            answers = list(pool.map(lambda q: self.ask(q, model, **headers), questions))
        assert [a.status_code for a in answers] == [200] * count, [a.text for a in answers]
        assert [a.json()["choices"][0]["message"]["content"] for a in answers] == [f"echo:{q}" for q in questions]

    def possibly_double_paid(self) -> int:
        """What /stats counts as the one exception."""
        return int(self.redis.client.hget("lp:stats", "possibly_double_paid") or 0)

    def settled(self) -> bool:
        """Whether nothing is left to be done."""
        client = self.redis.client
        return (
            not any(client.exists(f"lp:{key}") for key in ("batches", "groups", "standing"))
            and not (self.upstream.stats()["files_live"])
        )


@contextlib.contextmanager
def opened() -> Iterator[Ground]:
    """A Redis, an upstream and a stack with hooks, for one `with`."""
    with (
        running.short_directory() as directory,
        running.redis_server() as server,
        serve(validate_delay=0.1, batch_delay=0.2, finalize_delay=0.1) as upstream,
        running.running_stack(
            server.url,
            upstream.url,
            app="tests.faults.worker_app",
            wsgi="tests.faults.web_app:create_app()",
            LLM_PROXY_WEB_PROCESSES="1",
            LP_FAULTS_DIR=str(directory),
        ) as stack,
    ):
        made = Ground(stack, upstream, server, directory)
        keeper = threading.Thread(target=made.keep, daemon=True)
        keeper.start()
        yield made
        made.leave()
        keeper.join()


def batch(ground: Ground, name: str) -> None:
    """The happy road, with one request that is asked twice."""
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        twice = pool.submit(ground.ask, f"{name} 0", "happy")
        ground.all_right(name, "happy", 3)
        assert twice.result().json()["choices"][0]["message"]["content"] == f"echo:{name} 0"


def sync(ground: Ground, name: str) -> None:
    """The synchronous lane, with one refusal on the way."""
    ground.upstream.configure(faults=[{"path": "POST /v1/chat/completions", "kind": "429", "count": 1}])
    ground.all_right(name, "sync", 1, **{"X-Batch-Mode": "sync"})


def doubt_found(ground: Ground, name: str) -> None:
    """The answer to "create" is lost, and the batch exists."""
    ground.upstream.configure(faults=[{"path": "POST /v1/batches", "kind": "reset_after", "count": 1}])
    ground.all_right(name, "found", 2)


def doubt_absent(ground: Ground, name: str) -> None:
    """The answer to "create" is lost, and the batch does not exist."""
    ground.upstream.configure(faults=[{"path": "POST /v1/batches", "kind": "reset_before", "count": 1}])
    ground.all_right(name, "absent", 2)


def missing(ground: Ground, name: str) -> None:
    """A line that the upstream has not run is queued again."""
    ground.upstream.configure(
        ends=[{"model": "missing", "count": 1, "expire_after": 0.2, "expire_frac": 0.5, "omit_unfinished": True}]
    )
    ground.all_right(name, "missing", 2)


def failing(ground: Ground, name: str) -> None:
    """A line that fails is tried again, and its last failure is the answer."""
    assert ground.ask(name, "fail-500").status_code == 500


SCENARIOS: dict[str, Callable[[Ground, str], None]] = {
    function.__name__: function for function in (batch, sync, doubt_found, doubt_absent, missing, failing)
}


def run(ground: Ground, scenario: str, name: str) -> dict[str, Any]:
    """Run one scenario to its end; returns what it cost."""
    ground.upstream.reset()
    ground.upstream.configure(validate_delay=0.1, batch_delay=0.2, finalize_delay=0.1)
    SCENARIOS[scenario](ground, name)
    until(ground.settled, "nothing is left in Redis and at the upstream", PATIENCE_SECONDS)
    billed: dict[str, Any] = ground.upstream.stats()["billed"]
    return billed
