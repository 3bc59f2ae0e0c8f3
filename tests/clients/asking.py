"""Asks through programs of several SDKs, raw sockets and threads, and counts what was paid."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.running import ROOT, environment
from tests.simulator.server import Simulator

PROGRAMS = Path(__file__).parent / "programs"
CLIENTS = ROOT / ".clients"
CHAT = "/v1/chat/completions"


@dataclass(frozen=True)
class Front:
    """A front, a key, and the upstream behind it."""

    url: str
    key: str
    upstream: Simulator

    def run(
        self, program: list[str], model: str, content: str, timeout_seconds: float, longest: int = 110
    ) -> dict[str, Any]:
        """One call by a program of `programs/`, which prints what came of it; it must end by itself."""
        done = subprocess.run(
            [*program, f"{self.url}/v1", str(timeout_seconds), model, content],
            cwd=CLIENTS / "node" if program[1].endswith(".mjs") else PROGRAMS,
            env=environment(OPENAI_API_KEY=self.key),
            capture_output=True,
            text=True,
            timeout=longest,
        )
        assert done.returncode == 0, done.stderr
        report: dict[str, Any] = json.loads(done.stdout)
        return report

    def paid(self, model: str) -> int:
        """Lines of this model that the upstream was sent."""
        return sum(int(batch["lines"]) for batch in self.upstream.stats()["batches"] if batch["model"] == model)

    def stats(self) -> dict[str, Any]:
        """The front's own figures."""
        with self.call("GET", "/stats") as answer:
            figures: dict[str, Any] = json.loads(answer.read())
        return figures

    @contextlib.contextmanager
    def ask(self, model: str, content: str = "hello", **options: Any) -> Iterator[http.client.HTTPResponse]:
        """One chat completion by hand; the answer has its headers, its body may be on its way.

        Args:
            options: `retry` (a count), `key`, `wait_seconds`, `headers`, and fields of the body.
        """
        retry, key = options.pop("retry", 0), options.pop("key", "")
        wait_seconds, headers = options.pop("wait_seconds", 60), options.pop("headers", {})
        headers |= {"x-stainless-retry-count": str(retry)} | ({"Idempotency-Key": key} if key else {})
        body = {"model": model, "messages": [{"role": "user", "content": content}], **options}
        with self.call("POST", CHAT, json.dumps(body), headers, wait_seconds) as answer:
            yield answer

    @contextlib.contextmanager
    def call(
        self, method: str, path: str, body: str | None = None, headers: Any = None, wait_seconds: float = 60
    ) -> Iterator[http.client.HTTPResponse]:
        """Any call, on a connection of its own."""
        with contextlib.closing(http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=wait_seconds)) as made:
            made.request(method, path, body, {"Authorization": f"Bearer {self.key}", **(headers or {})})
            yield made.getresponse()

    def leave(self, model: str, after_seconds: float, content: str = "hello", **options: Any) -> None:
        """Ask and go away before there is an answer."""
        with contextlib.suppress(TimeoutError), self.ask(model, content, wait_seconds=after_seconds, **options):
            raise AssertionError("it was answered")

    def connect(self) -> socket.socket:
        """A bare connection."""
        address = urlsplit(self.url)
        return socket.create_connection((address.hostname, address.port), timeout=60)


def python(mode: str) -> list[str]:
    """The SDK of this environment."""
    return [sys.executable, "ask.py", mode]


def python1(mode: str) -> list[str]:
    """`openai` 1.109."""
    return [str(CLIENTS / "python1" / "bin" / "python"), "ask.py", mode]


def node(major: int) -> list[str]:
    """`openai` for Node."""
    return [str(Path(sys.executable).parent / "node"), "ask.mjs", f"openai{major}"]


def after(began: float, seconds: float) -> None:
    """Sleep until so long after a time of the monotonic clock: a client that waits before it comes again."""
    time.sleep(max(0.0, began + seconds - time.monotonic()))
