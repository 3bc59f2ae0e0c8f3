"""The units of examples/deploy/systemd under systemd as process 1, installed by the commands of docs/deploy.md."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
from collections.abc import Iterator
from typing import Any

from tests.engine.docker import TOOLS, billed, docker, remove, seconds
from tests.running import ROOT, until

MACHINE, UPSTREAM, CLIENT = "llm-proxy-machine", "llm-proxy-machine-upstream", "llm-proxy-machine-client"
REQUESTS = 500
REDIS = "appendonly yes\nappendfsync always\nsave ''\nmaxmemory-policy noeviction\nmaxmemory 512mb\n"
OURS = ("llm-proxy-web", "llm-proxy-worker", "llm-proxy-beat")
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
    remove(CLIENT, UPSTREAM, MACHINE)
    try:
        yield {"step": "systemd: installed", "ready after s": seconds(_install)}
        yield _trouble()
        yield {"step": "systemd: machine started again", "ready after s": seconds(_boot)}
        stopped = seconds(lambda: _sh(f"systemctl stop {' '.join(OURS)}"))
        yield {"step": "systemd: units stopped", "after s": stopped}
    finally:
        remove(CLIENT, UPSTREAM, MACHINE)


def _sh(script: str) -> str:
    return docker("exec", MACHINE, "bash", "-ec", script)


def _ready() -> bool:
    """Whether every unit runs, and the front may be sent traffic."""
    with contextlib.suppress(subprocess.CalledProcessError):
        _sh(f"systemctl is-active redis-server {' '.join(OURS)}")
        return bool(_sh("curl --silent --fail http://127.0.0.1:3030/readyz"))
    return False


def _stats() -> dict[str, Any]:
    stats: dict[str, Any] = json.loads(_sh("curl --silent http://127.0.0.1:3030/stats"))
    return stats


def _beside(name: str, *words: str) -> None:
    """A container of the tools on the machine's own loopback."""
    docker("run", "--detach", "--name", name, "--network", f"container:{MACHINE}", *words)


def _install() -> None:
    docker("build", "--tag", MACHINE, "--file", "tests/engine/Dockerfile", ".")
    docker("run", "--detach", "--name", MACHINE, "--privileged", "--cgroupns=private", "--tmpfs", "/run", MACHINE)
    until(lambda: _sh("systemctl is-system-running || true").strip() in {"running", "degraded"}, "systemd is up", 60)
    _beside(UPSTREAM, TOOLS, *"python -m tests.simulator --port 9100 --batch-delay 15".split())
    _sh(f'printf "{REDIS}" >> /etc/redis/redis.conf')
    most = _sh("ulimit -Hn").strip()
    if most != "unlimited" and int(most) < 65536:  # a container may not raise what its engine has
        for unit in ("redis-server", *OURS):
            directory = f"/etc/systemd/system/{unit}.service.d"
            _sh(f"mkdir {directory}; printf '[Service]\nLimitNOFILE={most}\n' > {directory}/limit.conf")
    _sh("systemctl daemon-reload; systemctl restart redis-server")
    section = (ROOT / "docs/deploy.md").read_text().partition("## systemd")[2]
    commands = re.search(r"```sh\n(.*?)```", section, re.S)
    assert commands
    _sh(commands[1])
    _sh("echo LLM_PROXY_UPSTREAM=http://127.0.0.1:9100 >> /etc/llm-proxy.env; systemctl restart 'llm-proxy-*.service'")
    until(_ready, "all units run", 60)


def _trouble() -> dict[str, Any]:
    """examples/many, with an SDK's default retries, while everything is restarted or killed."""
    environment = ("--env", "OPENAI_API_KEY=sk-machine", "--env", "OPENAI_BASE_URL=http://127.0.0.1:3030/v1")
    _beside(CLIENT, *environment, TOOLS, "python", "examples/many/many.py", str(REQUESTS))
    until(lambda: _stats()["in_flight"]["requests"] == REQUESTS, "all are in a batch", 60)
    for trouble in TROUBLE:
        _sh(trouble)
        until(_ready, "all units run again", 60)
    docker("wait", CLIENT)
    right = docker("logs", CLIENT).count("\techo:Write the number")
    ledger = billed(UPSTREAM)
    twice = len(ledger["more_than_once"])
    result = {"right": right, "paid": ledger["requests"], "paid twice": twice}
    return {"step": "systemd: everything restarted or killed", **result, "bad": (right, twice) != (REQUESTS, 0)}


def _boot() -> None:
    docker("restart", MACHINE)
    until(_ready, "what is enabled has started", 90)
