"""Builds the image in a tree, starts each process type in it as its user, and says what is in it.

As root, on Linux, with debootstrap. MIRROR and SHARE (paths that the steps may see) are for machines that reach
packages in a way of their own.
"""

from __future__ import annotations

import argparse
import json
import shlex
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import requests

from tests import running
from tests.image.dockerfile import steps
from tests.image.tree import Tree
from tests.ports import free_port
from tests.running import ROOT, VAULT_KEY, until
from tests.simulator.server import serve

#: Heroku and most others kill what is not gone by then.
STOP_SECONDS = 30.0
#: What must not be in an image.
FOREIGN = ("tests", "docs", ".git", "requirements-dev.txt", "**/pytest", "**/.cache/pip")


def megabytes(path: Path) -> float:
    """What a directory takes."""
    return int(subprocess.check_output(["du", "-sxk", str(path)]).split()[0]) / 1000


def build(tree: Tree, stage: str) -> list[dict[str, Any]]:
    """Replay the Dockerfile; how much each step adds."""
    sizes, before = [], megabytes(tree.root)
    sizes.append({"step": "Debian and Python, in place of FROM", "MB": round(before)})
    for step in steps(ROOT / "Dockerfile", stage):
        tree.take(step, ROOT)
        if step.name in {"RUN", "COPY"}:
            after = megabytes(tree.root)
            sizes.append({"step": f"{step.name} {step.text[:60]}", "MB": round(after - before, 1)})
            before = after
    return sizes


def contents(tree: Tree) -> dict[str, Any]:
    """What is in it that somebody would ask for."""
    packages = sorted((tree.root / "usr/local/lib").glob("python3*/site-packages/*/"), key=megabytes, reverse=True)
    strange = [str(found.relative_to(tree.root)) for name in FOREIGN for found in (tree.root / "app").glob(name)]
    files = Counter(path.suffix for path in (tree.root / "app").rglob("*") if path.is_file())
    writable = subprocess.check_output(
        ["find", str(tree.root / "app"), str(tree.root / "usr/local"), "-xdev", "!", "-type", "l",
         "(", "-perm", "/022", "-o", "-user", "10001", ")"],
        text=True,
    )  # fmt: skip
    return {
        "largest packages, MB": {path.name: round(megabytes(path), 1) for path in packages[:8]},
        "files under /app": dict(files),
        "does not belong there": strange,
        "the user could change": writable.split(),
    }


def ends(process: subprocess.Popen[Any]) -> float:
    """Seconds from SIGTERM to the end."""
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    process.wait(STOP_SECONDS)
    return round(time.monotonic() - began, 1)


def asks(url: str) -> str:
    """What a client hears."""
    body = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
    answer = requests.post(
        f"{url}/v1/chat/completions", json=body, headers={"Authorization": "Bearer sk-image"}, timeout=60
    )
    return str(answer.json()["choices"][0]["message"]["content"])


def in_one(tree: Tree, upstream: str) -> dict[str, Any]:
    """The image without a command, and its own health check."""
    (cmd,) = [step.words for step in steps(ROOT / "Dockerfile") if step.name == "CMD"]
    (check,) = [step.text for step in steps(ROOT / "Dockerfile") if step.name == "HEALTHCHECK"]
    probe = json.loads(check[check.index("[") :])
    port = free_port()
    variables = {"PORT": str(port), "LLM_PROXY_UPSTREAM": upstream}
    began = time.monotonic()
    process = tree.start(cmd, **variables)
    until(lambda: tree.start(probe, **variables).wait() == 0, "the health check is content", 60)
    healthy = round(time.monotonic() - began, 1)
    said = asks(f"http://127.0.0.1:{port}")
    return {"command": cmd, "healthy after s": healthy, "answer": said, "ends within s": ends(process)}


def each(tree: Tree, upstream: str) -> dict[str, Any]:
    """Each process type of the Procfile, with the image's own redis-server."""
    port, redis_port = free_port(), free_port()
    variables = {
        "PORT": str(port), "REDIS_URL": f"redis://127.0.0.1:{redis_port}/0", "LLM_PROXY_UPSTREAM": upstream,
        "LLM_PROXY_VAULT_KEYS": VAULT_KEY,
    }  # fmt: skip
    redis = tree.start(["redis-server", "--port", str(redis_port), "--appendonly", "yes", "--appendfsync", "always",
                        "--dir", "/data", "--appenddirname", "of-each"])  # fmt: skip
    lines = (line.split(": ", 1) for line in (ROOT / "Procfile").read_text().splitlines())
    processes = {name: tree.start(shlex.split(command), **variables) for name, command in lines}
    url = f"http://127.0.0.1:{port}"

    def ready() -> bool:
        try:
            return requests.get(f"{url}/readyz", timeout=3).ok
        except requests.RequestException:
            return False

    until(ready, "the front is ready", 60)
    said = asks(url)
    users = {
        name: int(
            next(
                line for line in Path(f"/proc/{process.pid}/status").read_text().splitlines() if "Uid" in line
            ).split()[1]
        )
        for name, process in processes.items()
    }
    result = {"answer": said, "users": users, "ends within s": {name: ends(p) for name, p in processes.items()}}
    ends(redis)
    return result


def main(arguments: argparse.Namespace) -> dict[str, Any]:
    """All of it."""
    with running.short_directory() as directory, serve(validate_delay=0.1, batch_delay=0.3) as upstream:
        tree = Tree(arguments.base or directory / "tree", [Path(path) for path in arguments.share])
        if not arguments.base:
            tree.make(arguments.suite, arguments.mirror)
        sizes = build(tree, arguments.stage)
        result = {"steps": sizes, "all, MB": round(megabytes(tree.root)), **contents(tree)}
        if not arguments.stage:
            result |= {"in one container": in_one(tree, upstream.url), "each process type": each(tree, upstream.url)}
        return result


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.image", description=__doc__)
    parser.add_argument("--suite", default="trixie")
    parser.add_argument("--mirror", default="http://deb.debian.org/debian")
    parser.add_argument("--share", nargs="*", default=[])
    parser.add_argument("--stage", default="", help="another than the last one; it is only built")
    parser.add_argument("--base", type=Path, help="a tree that stands already, with Python in it")
    sys.stdout.write(json.dumps(main(parser.parse_args()), indent=1) + "\n")
