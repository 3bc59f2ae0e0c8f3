"""The ground of the fault matrix: hooks on all doors, an armed point, callers who come again."""

from __future__ import annotations

import concurrent.futures
import contextlib
import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import requests

from tests import ground, running
from tests.faults.passages import DIRECTORY
from tests.running import until

PATIENCE_SECONDS = 40.0
WEBHOOK_SECRET = "whsec_ZmF1bHRzLWZhdWx0cy1mYXVsdHM="
#: The quickest upstream whose batches are still seen running.
UPSTREAM = {"validate_delay": 0.05, "batch_delay": 0.1, "finalize_delay": 0.05}
UNFINISHED = ("lp:batches", "lp:groups", "lp:standing", "lp:body:*", "lp:lines:*", "batch.*", "sync")


@dataclass
class Ground(ground.Ground):
    """A stack whose doors tell of each step."""

    directory: Path = Path()
    _runs: Iterator[int] = field(default_factory=itertools.count)
    prefix: str = ""

    def begin(self) -> None:
        """A new run: forget the points seen so far; questions and keys are of this run only."""
        self.prefix = f"run {next(self._runs)}"
        for left in self.directory.glob("lose-*"):
            left.unlink()
        (self.directory / "seen").write_text("")
        self.upstream.reset()
        self.upstream.configure(**UPSTREAM)

    def arm(self, point: str) -> None:
        """Let the process that passes the point die there."""
        (self.directory / "fired").unlink(missing_ok=True)
        draft = self.directory / "draft"
        draft.write_text(point)
        draft.rename(self.directory / "armed")

    def disarm(self) -> None:
        """Nobody dies any more."""
        (self.directory / "armed").unlink(missing_ok=True)

    @property
    def fired(self) -> bool:
        """Whether a process has died at the armed point."""
        return (self.directory / "fired").exists()

    def lose(self, script: str) -> None:
        """Let the next answer of a script be lost after it has taken effect."""
        (self.directory / f"lose-{script}").touch()

    @contextlib.contextmanager
    def recorded(self) -> Iterator[None]:
        """Note every passage, for one `with`."""
        recording = self.directory / "recording"
        recording.touch()
        try:
            yield
        finally:
            recording.unlink()

    def seen(self) -> str:
        """The passages since `begin`."""
        return (self.directory / "seen").read_text()

    def ask(self, question: str, model: str, **headers: str) -> requests.Response:
        """A client that does what SDKs do: it comes again, under the same Idempotency-Key."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        content = f"{self.prefix} {question}"
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

    def answered(self, question: str, model: str, **headers: str) -> None:
        """Ask; the answer is the right one."""
        answer = self.ask(question, model, **headers)
        assert answer.status_code == 200, answer.text
        assert answer.json()["choices"][0]["message"]["content"] == f"echo:{self.prefix} {question}"

    def refused(self, question: str, model: str, status: int, **headers: str) -> None:
        """Ask; the answer is an error with this status."""
        answer = self.ask(question, model, **headers)
        assert answer.status_code == status, answer.text

    def all_answered(self, model: str, count: int, **headers: str) -> None:
        """Ask several questions at once; each gets its own answer."""
        with concurrent.futures.ThreadPoolExecutor(count) as pool:
            list(pool.map(lambda n: self.answered(f"q{n}", model, **headers), range(count)))

    def possibly_double_paid(self) -> int:
        """What /stats counts as the one exception."""
        return int(self.redis.client.hget("lp:stats", "possibly_double_paid") or 0)

    def rest(self) -> list[str]:
        """What is still to be done, in Redis and at the upstream."""
        client = self.redis.client
        keys = [key.decode() for pattern in UNFINISHED for key in client.scan_iter(pattern, count=1000)]
        return keys + list(self.upstream.stats()["files"])

    def finish(self) -> None:
        """Wait until nothing is left; then every counter is what it should be."""
        until(lambda: not self.rest(), "nothing is left in Redis and at the upstream", PATIENCE_SECONDS)
        client = self.redis.client
        stats = {name.decode(): int(value) for name, value in client.hgetall("lp:stats").items()}
        ends = ("requests_successful", "requests_failed", "requests_synthesized")
        assert stats["requests_total"] == sum(stats.get(name, 0) for name in ends), stats
        assert stats.get("batches_total", 0) == stats.get("batches_successful", 0) + stats.get("batches_failed", 0)
        assert ground.used(client) == stats.get("requests_successful", 0)  # every answer's tokens, once
        for group in client.scan_iter("lp:group:*", count=1000):
            assert client.hmget(group, "queued_bytes", "queued_inputs") == [None, None]


@contextlib.contextmanager
def faults_ground() -> Iterator[Ground]:
    """A ground for one `with`, kept running."""
    with (
        running.short_directory() as directory,
        ground.opened(
            app="tests.faults.worker_app",
            wsgi="tests.faults.web_app:create_app()",
            extra=("worker-spare",),  # takes over while the dead one starts again
            upstream=UPSTREAM,
            LLM_PROXY_WEB_PROCESSES="1",
            LLM_PROXY_MAX_HOLD_SECONDS="0.1",
            LLM_PROXY_WEBHOOK_SECRETS=WEBHOOK_SECRET,
            **{DIRECTORY: str(directory)},
        ) as opened,
    ):
        made = Ground(opened.redis, opened.upstream, opened.stack, directory=directory)
        with made.kept():
            yield made
