"""`make fuzz`: each target for so many seconds with ever new seeds, then schemathesis on /openapi.json."""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import requests
from hypothesis import HealthCheck, given, seed, settings

from tests import running
from tests.fuzz import webhook
from tests.fuzz.targets import PURE
from tests.relay.raw_upstream import Call, RawUpstream

ROUND = settings(max_examples=2000, database=None, deadline=None, suppress_health_check=list(HealthCheck))
#: Of a front, a method that is not ours on a path of ours goes to the upstream: there is no 405.
NOT_OURS = "unsupported_method,allow_header_conformance"


def run(name: str, target: Any, strategies: dict[str, Any], seconds: float, first_seed: int) -> int:
    """Fuzz one target; returns how many inputs it has taken."""
    taken = 0

    def counted(**values: Any) -> None:
        nonlocal taken
        taken += 1
        target(**values)

    ends = time.monotonic() + seconds
    number = first_seed
    while time.monotonic() < ends:
        seed(number)(ROUND(given(**strategies)(counted)))()
        number += 1
    print(f"{name}: {taken:,} inputs in {seconds:.0f} s, seeds {first_seed} to {number - 1}", flush=True)  # noqa: T201 - its output
    return taken


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600, help="for each target")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--schemathesis", type=Path, help="its program, in an environment of its own")
    options = parser.parse_args()
    for name, (target, strategies) in PURE.items():
        run(name, target, strategies, options.seconds, options.seed)
    upstream = RawUpstream()
    upstream.handler = not_found
    with (
        contextlib.closing(upstream),
        running.redis_server() as server,
        running.running_stack(
            server.url, upstream.url, only=("web",), LLM_PROXY_WEBHOOK_SECRETS=webhook.SECRET
        ) as stack,
        requests.Session() as session,
    ):
        run("webhook", webhook.target(session, stack.url), webhook.STRATEGIES, options.seconds, options.seed)
        if options.schemathesis:
            return schemathesis(options.schemathesis, stack.url, options.seconds, options.seed)
    return 0


def not_found(call: Call) -> None:
    """The upstream's answer to a method that is not ours on a path of ours."""
    call.read()
    call.send(b"HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")


def schemathesis(program: Path, url: str, seconds: float, first_seed: int) -> int:
    """Everything that the description allows, and what it does not."""
    command = [
        str(program), "run", f"{url}/openapi.json", f"--max-time={seconds:.0f}", f"--seed={first_seed}",
        f"--exclude-checks={NOT_OURS}", "--phases=examples,coverage,fuzzing", "--max-examples=1000", "--workers=2",
        "--warnings=off",
    ]  # fmt: skip
    return subprocess.run(command, cwd="/tmp").returncode  # noqa: S108 - it leaves notes where it runs


if __name__ == "__main__":
    sys.exit(main())
