"""Many requests at once, each on a connection of its own, every answer checked.

`python -m tests.bench.load http://127.0.0.1:3030 --count 1000` prints one report as JSON. A process may have about
20,000 open files, so `run` starts one for each 12,000 connections, which all begin at the same moment.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import re
import resource
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import msgspec

#: Connections of one generating process.
CONNECTIONS = 12_000
#: Of them, so many are being opened at the same moment: who opens thousands comes round to writing to none.
OPENING = 500
#: For the start of the generating processes.
HEAD_START_SECONDS = 2.0
ENDPOINTS = {"chat": "/v1/chat/completions", "embeddings": "/v1/embeddings"}
DIMENSIONS = 1536


@dataclass
class Report:
    """What came of a run.

    Attributes:
        began: Unix time of the first connection.
        wall_seconds: from then to the last answer.
        added_seconds: for each right answer, how long after its batch's completion it was there.
        errors: what else came, by status or exception.
    """

    began: float = 0.0
    ok: int = 0
    wrong: int = 0
    wall_seconds: float = 0.0
    added_seconds: list[float] = field(default_factory=list)
    errors: dict[str, int] = field(default_factory=dict)

    def merge(self, other: Report) -> None:
        """Add what another process saw."""
        self.began = min(self.began or other.began, other.began)
        self.ok += other.ok
        self.wrong += other.wrong
        self.wall_seconds = max(self.wall_seconds, other.wall_seconds)
        self.added_seconds += other.added_seconds
        for what, times in other.errors.items():
            self.fail(what, times)

    def fail(self, what: str, times: int = 1) -> None:
        """Count what was no answer."""
        self.errors[what] = self.errors.get(what, 0) + times

    def note(self, question: str, answer: bytes) -> None:
        """Take one answer, given as it came over the wire."""
        head, _, body = answer.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            self.fail(" ".join([head[9:12].decode() or "nothing", *re.findall(r'"code":\s?"(\w+)"', body.decode())]))
            return
        if b"\r\ntransfer-encoding: chunked" in head.lower():
            body = _without_chunks(body)
        try:
            reply = msgspec.json.decode(body)
            right = _answers(question, reply)
            completed = int(reply["system_fingerprint"].removeprefix("t=")) / 1000
        except (ValueError, KeyError, TypeError, IndexError):
            self.fail("no answer")
            return
        if right:
            self.ok += 1
            self.added_seconds.append(round(time.time() - completed, 3))
        else:
            self.wrong += 1


def _answers(question: str, reply: dict[str, Any]) -> bool:
    digest = hashlib.sha256(question.encode())
    if reply["object"] == "list":
        values = reply["data"][0]["embedding"]
        return len(values) == DIMENSIONS and values[:32] == [(byte - 128) / 128 for byte in digest.digest()]
    return bool(reply["choices"][0]["message"]["content"] == f"echo:{digest.hexdigest()}")


def _without_chunks(data: bytes) -> bytes:
    parts, at = [], 0
    while size := int(data[at : (end := data.index(b"\r\n", at))], 16):
        parts.append(data[end + 2 : end + 2 + size])
        at = end + 4 + size
    return b"".join(parts)


class Caller(asyncio.Protocol):
    """One request and its answer, until the other side has said all; it asks for no further use of the connection."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._answer: list[bytes] = []
        self.done: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask."""
        assert isinstance(transport, asyncio.WriteTransport)
        transport.write(self._request)
        self._request = b""

    def data_received(self, data: bytes) -> None:
        """Collect."""
        self._answer.append(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """All was said."""
        if not self.done.done():
            self.done.set_exception(exc) if exc else self.done.set_result(b"".join(self._answer))


async def ask_all(url: str, endpoint: str, numbers: range, body_bytes: int, source: str, at: float) -> Report:
    """Send one request for each number at the given Unix time, from an address of loopback; wait for all answers."""
    host, port = urlsplit(url).hostname or "127.0.0.1", urlsplit(url).port or 80
    run = uuid.uuid4().hex
    loop = asyncio.get_running_loop()
    report, opening = Report(), asyncio.Semaphore(OPENING)

    async def ask(number: int) -> None:
        question = f"{run} {number} ".ljust(body_bytes, "x")
        try:
            async with opening:
                _, caller = await loop.create_connection(
                    lambda: Caller(_request(endpoint, question, f"{host}:{port}")), host, port, local_addr=(source, 0)
                )
            report.note(question, await caller.done)
        except OSError as error:
            report.fail(type(error).__name__)

    await asyncio.sleep(at - time.time())
    report.began = time.time()
    await asyncio.gather(*map(ask, numbers))
    report.wall_seconds = time.time() - report.began
    return report


def _request(endpoint: str, question: str, host: str) -> bytes:
    asked: dict[str, Any] = {"model": "gpt-4o-mini"}
    if endpoint == "embeddings":
        asked |= {"input": question, "dimensions": DIMENSIONS}
    else:
        asked |= {"messages": [{"role": "user", "content": question}]}
    return request(ENDPOINTS[endpoint], asked, host, {"Authorization": "Bearer sk-bench"})


def request(path: str, asked: dict[str, Any], host: str, headers: dict[str, str]) -> bytes:
    """A request as a `Caller` sends it."""
    body = json.dumps(asked).encode()
    more = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\n{more}"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body


class Load:
    """A load that is under way."""

    def __init__(self, url: str, count: int, *, endpoint: str = "chat", body_bytes: int = 1000) -> None:
        self.began = time.time() + HEAD_START_SECONDS
        # Each process has an address of its own: one has no more than 28,000 ports.
        self._processes = [
            subprocess.Popen(
                [
                    sys.executable, "-m", "tests.bench.load", url, "--count", str(min(CONNECTIONS, count - first)),
                    "--endpoint", endpoint, "--body-bytes", str(body_bytes), "--source", f"127.0.0.{2 + process}",
                    "--at", str(self.began),
                ],
                stdout=subprocess.PIPE,
            )
            for process, first in enumerate(range(0, count, CONNECTIONS))
        ]  # fmt: skip

    def wait(self, seconds: float) -> Report:
        """The report, as soon as all answers are there."""
        whole = Report()
        for process in self._processes:
            output, _ = process.communicate(timeout=seconds)
            whole.merge(msgspec.json.decode(output, type=Report))
        return whole

    def stop(self) -> None:
        """Hang up."""
        for process in self._processes:
            process.kill()
            process.communicate()


def main() -> None:
    """One generating process."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.load", description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--count", type=int, default=1000, help=f"at most {CONNECTIONS}")
    parser.add_argument("--endpoint", choices=ENDPOINTS, default="chat")
    parser.add_argument("--body-bytes", type=int, default=1000)
    parser.add_argument("--source", default="127.0.0.1", help="address of loopback from which it connects")
    parser.add_argument("--at", type=float, default=0.0, help="Unix time to begin at")
    given = parser.parse_args()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    report = asyncio.run(
        ask_all(given.url, given.endpoint, range(given.count), given.body_bytes, given.source, given.at)
    )
    sys.stdout.write(msgspec.json.encode(report).decode())


if __name__ == "__main__":
    main()
