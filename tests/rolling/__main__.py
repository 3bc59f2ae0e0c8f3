"""Two versions side by side on one Redis, in every mixture that an upgrade goes through: `make rolling OLD=<commit>`.

A few hundred requests run in each: while everything is replaced one process at a time, upwards and back, with an old
front and new workers, and with a new front and old workers. It prints what became of the requests.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests import running
from tests.repeating import ask
from tests.rolling import versions
from tests.running import Stack
from tests.simulator.server import serve

UPSTREAM: dict[str, Any] = {"validate_delay": 0.2, "batch_delay": 2.0, "finalize_delay": 0.2}
WORKERS = ("worker-control", "worker-transfer", "worker-sync", "beat")
#: In the order that docs/operations.md gives for an upgrade; back it is the other way round.
ORDER = (*WORKERS, "web")
#: An SDK that has been told to be patient.
TRIES = 6
#: Front, workers, and what all of them become meanwhile.
MIXTURES = {
    "upgraded one by one": ("old", "old", "new"),
    "taken back one by one": ("new", "new", "old"),
    "front old, workers new": ("old", "new", ""),
    "front new, workers old": ("new", "old", ""),
}
#: Requests begin over this time, so that every moment of a roll has some of each state.
ROLL_SECONDS, STAND_SECONDS = 40.0, 15.0


@dataclass
class Fleet:
    """The stack whose processes are each of one version or the other."""

    stack: Stack
    trees: dict[str, Path]

    def become(self, *, front: Path, workers: Path) -> None:
        """All anew, at once."""
        self.stack.kill(*self.stack.processes)
        self.trees.update({**dict.fromkeys(WORKERS, workers), "web": front})
        self.stack.start()

    def replace(self, names: Sequence[str], tree: Path) -> None:
        """End one process after the other as a deployment does, and start the other version's."""
        for name in names:
            self.stack.processes.pop(name).stop(seconds=60)
            self.trees[name] = tree
            self.stack.start(name)


def run(commit: str, count: int, only: str) -> Iterator[dict[str, Any]]:
    """What became of the requests in each mixture."""
    trees: dict[str, Path] = {}
    with (
        versions.checkout(commit) as old,
        running.redis_server() as server,
        serve(**UPSTREAM) as upstream,
        ThreadPoolExecutor(count) as pool,
        running.running_stack(
            server.url, upstream.url, only=("beat",), launch=versions.launch_from(lambda name: trees.get(name, old))
        ) as stack,
    ):
        version = {"old": old, "new": running.ROOT}
        fleet = Fleet(stack, trees)
        for name, (front, workers, becomes) in MIXTURES.items():
            if only not in name:
                continue
            fleet.become(front=version[front], workers=version[workers])
            upstream.reset()
            began = time.monotonic()
            seconds = ROLL_SECONDS if becomes else STAND_SECONDS
            jobs = [
                pool.submit(ask, stack.url, f"{name} {n}", n, pause_seconds=n * seconds / count, tries=TRIES)
                for n in range(count)
            ]
            if becomes:
                fleet.replace(ORDER if becomes == "new" else ORDER[::-1], version[becomes])
            outcomes = [job.result() for job in jobs]
            yield _result(name, outcomes, upstream.stats()["billed"], time.monotonic() - began)


def _result(name: str, outcomes: list[tuple[str, int]], paid: dict[str, Any], seconds: float) -> dict[str, Any]:
    bad = [outcome for outcome, _ in outcomes if outcome != "right"]
    return {
        "mixture": name,
        "asked": len(outcomes),
        "answered_right": len(outcomes) - len(bad),
        "bad": bad[:5],
        "seconds": round(seconds),
        "tries": sum(tries for _, tries in outcomes),
        "paid": paid["requests"],
        "paid_twice": len(paid["more_than_once"]),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.rolling", description=__doc__)
    parser.add_argument("commit")
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--only", default="", help="part of a mixture's name")
    arguments = parser.parse_args()
    bad = False
    for result in run(arguments.commit, arguments.requests, arguments.only):
        sys.stdout.write(json.dumps(result) + "\n")
        sys.stdout.flush()
        bad |= result["answered_right"] != result["asked"] or result["paid_twice"] > 0
    sys.exit(bad)
