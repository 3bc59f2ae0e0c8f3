"""The units of examples/deploy/systemd under systemd as process 1, installed by the commands of docs/deploy.md."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import threading
from collections.abc import Iterator
from typing import Any

from tests.engine.docker import TOOLS, billed, docker, seconds
from tests.running import ROOT, until

MACHINE, UPSTREAM, CLIENT = "llm-proxy-machine", "llm-proxy-machine-upstream", "llm-proxy-machine-client"
REQUESTS = 500
REDIS = "appendonly yes\nappendfsync always\nsave ''\nmaxmemory-policy noeviction\nmaxmemory 512mb\n"
UNITS = ("web", "worker", "beat")
#: While the clients wait, each of them once.
TROUBLE = (
    "systemctl restart llm-proxy-web",
    "kill -9 $(systemctl show --property MainPID --value llm-proxy-worker)",
    "systemctl restart llm-proxy-beat",
    "systemctl restart redis-server",
    "systemctl restart llm-proxy-worker",
)


def run() -> Iterator[dict[str, Any]]:
    """What became of each step; `bad` where it is not what it should be. The tools' image must be there."""
    try:
        yield {"step": "systemd: installed", "ready after s": seconds(_install)}
        yield _trouble()
        yield {"step": "systemd: machine started again", "ready after s": seconds(_boot)}
        stop = f"systemctl stop {' '.join(f'llm-proxy-{unit}' for unit in UNITS)}"
        yield {"step": "systemd: units stopped", "after s": seconds(lambda: _sh(stop))}
    finally:
        for name in (CLIENT, UPSTREAM, MACHINE):
            with contextlib.suppress(subprocess.CalledProcessError):
                docker("rm", "--force", "--volumes", name)


def _sh(script: str) -> str:
    return docker("exec", MACHINE, "bash", "-ec", script)


def _ready() -> bool:
    with contextlib.suppress(subprocess.CalledProcessError):
        return bool(_sh("curl --silent --fail http://127.0.0.1:3030/readyz"))
    return False


def _stats() -> dict[str, Any]:
    stats: dict[str, Any] = json.loads(_sh("curl --silent http://127.0.0.1:3030/stats"))
    return stats


def _beside(name: str, *words: str) -> str:
    """A container of the tools on the machine's own loopback."""
    return docker("run", "--name", name, "--network", f"container:{MACHINE}", *words)


def _install() -> None:
    docker("build", "--tag", MACHINE, "--file", "tests/engine/Dockerfile", ".")
    docker("run", "--detach", "--name", MACHINE, "--privileged", "--cgroupns=private", "--tmpfs", "/run", MACHINE)
    until(lambda: "running" in _sh("systemctl is-system-running || true"), "systemd is up", 60)
    _beside(UPSTREAM, "--detach", TOOLS, *"python -m tests.simulator --port 9100 --batch-delay 15".split())
    _sh(f'printf "{REDIS}" >> /etc/redis/redis.conf')
    for unit in ("redis-server", *(f"llm-proxy-{unit}" for unit in UNITS)):
        # Where a container may not have what the units ask for: as much as it may.
        directory = f"/etc/systemd/system/{unit}.service.d"
        _sh(f'mkdir {directory}; echo "[Service]\nLimitNOFILE=$(ulimit -Hn)" > {directory}/limit.conf')
    _sh("systemctl daemon-reload; systemctl restart redis-server")
    section = (ROOT / "docs/deploy.md").read_text().partition("## systemd")[2]
    commands = re.search(r"```sh\n(.*?)```", section, re.S)
    assert commands
    _sh(commands[1])
    _sh("echo LLM_PROXY_UPSTREAM=http://127.0.0.1:9100 >> /etc/llm-proxy.env; systemctl restart 'llm-proxy-*.service'")
    until(_ready, "the front is ready", 60)


def _trouble() -> dict[str, Any]:
    """examples/many, with an SDK's default retries, while everything is restarted or killed."""
    said: list[str] = []
    environment = ("--env", "OPENAI_API_KEY=sk-machine", "--env", "OPENAI_BASE_URL=http://127.0.0.1:3030/v1")
    command = (*environment, TOOLS, "python", "examples/many/many.py", str(REQUESTS))
    client = threading.Thread(target=lambda: said.append(_beside(CLIENT, *command)))
    client.start()
    until(lambda: _stats()["in_flight"]["requests"] == REQUESTS, "all are in a batch", 60)
    for trouble in TROUBLE:
        _sh(trouble)
        until(_ready, "the front is ready again", 60)
    client.join()
    right = said[0].count("\techo:Write the number") if said else 0
    ledger = billed(UPSTREAM)
    twice = len(ledger["more_than_once"])
    result = {"right": right, "paid": ledger["requests"], "paid twice": twice}
    return {"step": "systemd: everything restarted or killed", **result, "bad": (right, twice) != (REQUESTS, 0)}


def _boot() -> None:
    docker("restart", MACHINE)
    until(_ready, "what is enabled has started", 90)
