"""`python -m tests.hosts`: two hosts for the front, two for workers and the clock, one for Redis, one for the upstream.

While 1,000 clients wait, the cables of one front and one worker are pulled; a minute later the worker's is put back,
with its processes alive and long replaced. Prints what came of it as JSON; exits 1 when an answer is missing or
paid twice. Needs root.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import requests

from tasks import embedded_redis, stack
from tests import running
from tests.hosts.network import OUTSIDE, Host, network
from tests.simulator.server import Simulator, serve

PORT = 3030
#: A client that hears nothing for so long comes again, by the other front: what a balancer would have told it at once.
PATIENCE_SECONDS = (3, 40)
TRIES = 10
BATCH_SECONDS = 15.0
ALONE_SECONDS = 60.0
RIGHT = "right"


@contextlib.contextmanager
def deployed(hosts: dict[str, Host], upstream: str) -> Iterator[None]:
    """Every process on its host."""
    redis = hosts["redis"]
    with running.short_directory() as directory:

        def start(host: Host, name: str, command: list[str]) -> None:
            variables = {
                "REDIS_URL": f"redis://{redis.address}:6379",
                "PORT": str(PORT),
                "LLM_PROXY_BIND": host.address,
                "LLM_PROXY_UPSTREAM": upstream,
                "LLM_PROXY_VAULT_KEYS": running.VAULT_KEY,
                "LLM_PROXY_DATA_DIR": str(directory),
                "LLM_PROXY_MAX_BATCH_REQUESTS": "100",
            }
            running.start(f"{host.name}-{name}", host.command(*command), variables, directory)

        try:
            server = [
                embedded_redis.server(),
                "--bind",
                redis.address,
                "--protected-mode",
                "no",
                "--dir",
                str(directory),
            ]
            start(redis, "redis", [*server, "--save", "", "--appendonly", "yes", "--appendfsync", "always"])
            for name in ("worker1", "worker2"):
                start(hosts[name], "worker", [sys.executable, "-m", "tasks", "worker"])
                start(hosts[name], "beat", stack.beat())
            for name in ("front1", "front2"):
                start(hosts[name], "web", stack.web())
                running.until(lambda name=name: _ready(hosts[name]), f"{name} is ready", 60)  # type: ignore[misc]  # bound now
            running.until(lambda: _workers(directory) == 6, "all workers are ready", 60)
            yield
        finally:
            for host in hosts.values():
                host.kill()


def _ready(host: Host) -> bool:
    with contextlib.suppress(requests.RequestException):
        return requests.get(f"http://{host.address}:{PORT}/readyz", timeout=3).ok
    return False


def _workers(directory: Path) -> int:
    return sum(log.read_text().count(" ready.") for log in directory.glob("worker*.log"))


def ask(fronts: list[Host], number: int) -> tuple[str, int]:
    """One client, which turns to the other front when the one does not answer: what came of it, and its tries."""
    question = f"question {number}"
    body = {"model": f"m{number % 2}", "messages": [{"role": "user", "content": question}]}
    said = "nothing"
    for attempt in range(TRIES):
        front = fronts[(number + attempt) % 2]
        headers = {"Authorization": "Bearer sk-hosts", "X-Stainless-Retry-Count": str(attempt)}
        try:
            answer = requests.post(
                f"http://{front.address}:{PORT}/v1/chat/completions",
                json=body, headers=headers, timeout=PATIENCE_SECONDS,
            )  # fmt: skip
        except requests.RequestException as error:
            said = type(error).__name__
            continue
        if answer.ok:
            content = answer.json()["choices"][0]["message"]["content"]
            return (RIGHT if content == f"echo:{question}" else f"wrong: {content}"), attempt + 1
        said = f"{answer.status_code} {answer.text[:100]}"
        time.sleep(1)
    return said, TRIES


def run(count: int) -> dict[str, Any]:
    """The whole story."""
    with network("redis", "front1", "front2", "worker1", "worker2") as made, _upstream() as upstream:
        hosts = {host.name: host for host in made}
        fronts = [hosts["front1"], hosts["front2"]]
        with deployed(hosts, upstream.url), ThreadPoolExecutor(count) as pool:
            began = time.monotonic()
            jobs = [pool.submit(ask, fronts, number) for number in range(count)]
            running.until(lambda: len(upstream.stats()["batches"]) >= count / 200, "half of the batches run")
            hosts["worker1"].unplug()
            hosts["front1"].unplug()
            time.sleep(ALONE_SECONDS)
            hosts["worker1"].plug_in()
            outcomes = [job.result() for job in jobs]
            took = time.monotonic() - began
            running.until(lambda: upstream.stats()["files_live"] == 0, "the upstream's files are deleted", 120)
            paid = upstream.stats()["billed"]
    bad = [outcome for outcome, _ in outcomes if outcome != RIGHT]
    return {
        "asked": count,
        "answered_right": count - len(bad),
        "bad": bad[:10],
        "seconds": round(took),
        "tries": sum(tries for _, tries in outcomes),
        "lines_paid": paid["requests"],
        "paid_twice": len(paid["more_than_once"]),
    }


@contextlib.contextmanager
def _upstream() -> Iterator[Simulator]:
    with serve(host=OUTSIDE, batch_delay=BATCH_SECONDS) as upstream:
        yield upstream


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.hosts", description=__doc__)
    parser.add_argument("--requests", type=int, default=1000)
    result = run(parser.parse_args().requests)
    sys.stdout.write(json.dumps(result, indent=1) + "\n")
    sys.exit(result["answered_right"] != result["asked"] or result["paid_twice"] > 0)
