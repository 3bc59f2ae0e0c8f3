"""docker-compose.yml and the image: what README and docs/deploy.md tell an operator to run, and containers that end.

Containers, volumes and networks are a project's own; the images `llm-proxy` and `llm-proxy-tools` are built anew,
ports 5555 and 9090 must be free, and there must be no `.env`. Questions come from outside, by clients that repeat a
request as SDKs do.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import requests

from tests.engine.docker import billed, docker, remove, seconds
from tests.ports import free_port
from tests.repeating import ask
from tests.running import until
from tests.system.conftest import is_ready

PROJECT = "llm-proxy-engine"
REQUESTS = 300
#: A stack that is removed and started again is away for half a minute.
TRIES = 20
#: Everything but the upstream, which forgets with its process what was paid.
OURS = ("balancer", "web", "worker", "beat", "redis", "keys")
STORMS = {
    "workers killed": ("kill", "worker"),
    "fronts killed": ("kill", "web"),
    "Redis killed": ("kill", "redis"),
    "all restarted": ("restart", *OURS[:-1]),
    "containers removed": ("rm", "--stop", "--force", "--volumes", *OURS),
}
SCALE = ("--scale", "web=3", "--scale", "worker=4")
FLOWER = "http://127.0.0.1:5555/workers"
HEALTH = "{{.State.Health.Status}}"


class Compose:
    """One project of `docker compose`, before the simulator of its demo."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.variables = {
            "PORT": str(self.port), "LLM_PROXY_UPSTREAM": "http://simulator:9100", "FLOWER_BASIC_AUTH": "me:secret",
        }  # fmt: skip

    def __call__(self, *words: str) -> str:
        return docker("compose", "--project-name", PROJECT, *words, **self.variables)

    def up(self) -> None:
        """Start what is not there, and wait until it answers."""
        self("up", "--detach", *SCALE, "balancer", "worker", "beat", "simulator")
        until(lambda: is_ready(self.port), "the balancer reaches a ready front", 90)

    def down(self) -> None:
        self("--profile", "*", "down", "--volumes", "--timeout", "1")

    def strike(self, *command: str) -> None:
        """Do something to the containers, and start what is away."""
        self(*command)
        self.up()

    def crash(self, service: str) -> None:
        """Kill all processes of one container, and wait until its restart policy has brought it back."""
        container = f"{PROJECT}-{service}-1"
        docker("exec", "--detach", container, "sh", "-c", "kill -9 -1")
        again = "{{.RestartCount}} {{.State.Running}}"
        until(lambda: docker("inspect", "--format", again, container) == "1 true\n", f"{container} runs again")
        until(lambda: is_ready(self.port), "the balancer reaches a ready front", 90)

    def container(self, service: str) -> str:
        return self("ps", "--all", "--quiet", service).strip()


def run() -> Iterator[dict[str, Any]]:
    """What became of each step; `bad` where it is not what it should be."""
    compose = Compose()
    compose.down()
    try:
        yield _demo(compose)
        yield {"step": "three fronts, four workers", "up after s": seconds(compose.up)}
        with ThreadPoolExecutor(REQUESTS) as pool:
            for service in ("worker", "web"):
                yield _storm(compose, f"a {service} crashed", partial(compose.crash, service), pool)
            for name, command in STORMS.items():
                yield _storm(compose, name, partial(compose.strike, *command), pool)
        yield _look(compose)
        yield _one_container(compose)
        yield {"step": "stop", "stopped after s": seconds(lambda: compose("--profile", "*", "stop"))}
    finally:
        compose.down()


def _demo(compose: Compose) -> dict[str, Any]:
    """The profile's own client."""
    compose("--profile", "demo", "up", "--build", "--detach")
    code = int(docker("wait", compose.container("demo")))
    right = compose("--profile", "demo", "logs", "--no-log-prefix", "demo").count("\techo:Write the number")
    return {"step": "demo", "exit code": code, "right": right, "bad": code != 0 or right != REQUESTS}


def _storm(compose: Compose, name: str, strike: Callable[[], None], pool: ThreadPoolExecutor) -> dict[str, Any]:
    """Requests over 20 s, in the middle of which something happens to the containers."""
    simulator = compose.container("simulator")
    before = billed(simulator)
    jobs = [
        pool.submit(ask, compose.url, f"{name} {n}", n, pause_seconds=n * 20 / REQUESTS, tries=TRIES)
        for n in range(REQUESTS)
    ]
    stats = f"{compose.url}/stats"
    until(lambda: requests.get(stats, timeout=10).json()["in_flight"]["requests"] > REQUESTS / 4, "many are in batches")
    away = seconds(strike)
    outcomes = [job.result() for job in jobs]
    others = [outcome for outcome, _ in outcomes if outcome != "right"]
    after = billed(simulator)
    return {
        "step": name,
        "right": REQUESTS - len(others),
        "others": others[:5],
        "tries": sum(tries for _, tries in outcomes),
        "paid": after["requests"] - before["requests"],
        "paid twice": len(after["more_than_once"]) - len(before["more_than_once"]),
        "ready again after s": away,
        "bad": bool(others),
    }


def _look(compose: Compose) -> dict[str, Any]:
    """The command in a container, Flower behind its password, Prometheus, and every health check."""

    def complaints() -> list[str]:
        lines = compose("exec", "-T", "worker", "sh", "-c", "python -m tasks doctor || true").splitlines()
        return [line for line in lines if not line.startswith("ok ")]

    def lame() -> list[str]:
        containers = map(json.loads, compose("ps", "--all", "--format", "json").splitlines())
        return [
            one["Service"]
            for one in containers
            if (one["State"], one["ExitCode"]) != ("exited", 0)  # what runs once
            and (one["State"] != "running" or one["Health"] not in {"", "healthy"})
        ]

    def flower(code: int, **how: Any) -> bool:
        with contextlib.suppress(requests.RequestException):
            return requests.get(FLOWER, timeout=3, **how).status_code == code
        return False

    def is_scraped() -> bool:
        query = ("promtool", "query", "instant", "http://127.0.0.1:9090", "up")
        with contextlib.suppress(subprocess.CalledProcessError):  # until it serves
            return "=> 1 @" in compose("exec", "-T", "prometheus", *query)
        return False

    assert "in flight" in compose("exec", "-T", "worker", "python", "-m", "tasks", "top")
    until(lambda: not complaints(), "the doctor is content, once beat was left alone for half a minute", 60)
    compose("--profile", "flower", "up", "--build", "--detach", "flower")
    until(lambda: flower(200, auth=("me", "secret")), "Flower answers who has the password", 60)
    until(lambda: flower(401), "and nobody else", 5)
    compose("--profile", "watch", "up", "--detach", "--no-deps", "prometheus")
    until(is_scraped, "Prometheus reads the figures", 60)
    until(lambda: not lame(), "every container runs and is healthy", 120)
    stats = json.loads(compose("exec", "-T", "worker", "python", "-m", "tasks", "stats", "--json"))
    told, twice = stats["exceptions"]["possibly_double_paid"], billed(compose.container("simulator"))["more_than_once"]
    return {"step": "look", "possibly paid twice": told, "paid twice": len(twice), "bad": len(twice) > told}


def _one_container(compose: Compose) -> dict[str, Any]:
    """`docker run` without a command; stopped and started again, it answers from its volume."""
    name, port = f"{PROJECT}-one", free_port()
    url = f"http://127.0.0.1:{port}"
    remove(name)
    docker("build", "--tag", "llm-proxy", ".")
    before = billed(compose.container("simulator"))["requests"]
    try:
        docker(
            "run", "--detach", "--name", name, "--stop-timeout", "40", "--publish", f"127.0.0.1:{port}:3030",
            "--volume", f"{name}:/data", "--network", f"{PROJECT}_default",
            "--env", "LLM_PROXY_UPSTREAM=http://simulator:9100", "llm-proxy",
        )  # fmt: skip
        healthy = seconds(lambda: until(lambda: "healthy\n" == docker("inspect", "--format", HEALTH, name), name, 60))
        first, _ = ask(url, "one container", 1, pause_seconds=0, tries=1, key="the same")
        gone = seconds(lambda: docker("stop", name))
        docker("start", name)
        until(lambda: is_ready(port), "it serves again", 60)
        second, _ = ask(url, "one container", 1, pause_seconds=0, tries=1, key="the same")
    finally:
        remove(name)
        docker("volume", "rm", "--force", name)
    paid = billed(compose.container("simulator"))["requests"] - before
    bad = (first, second, paid) != ("right", "right", 1)
    said = {"first": first, "after a restart": second, "paid": paid}
    return {"step": "one container", "healthy after s": healthy, **said, "stopped after s": gone, "bad": bad}
