"""What is done while a process is killed: small runs that together pass every step of the pipeline.

A new scenario is one function here, with what the upstream does, who asks, and what each must get; then
`python -m tests.faults.points` writes down what it passes.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from tests.faults.ground import PATIENCE_SECONDS, WEBHOOK_SECRET, Ground
from tests.running import until

Scenario = Callable[[Ground], None]

SCENARIOS: dict[str, Scenario] = {}
#: Scenarios whose synchronous calls may be paid twice when they are cut; then that is counted.
SYNCHRONOUS = {"sync", "late", "unsubmitted", "unbatchable"}
#: Lines that the upstream ran and lost are asked, and paid, once more: that many.
PAID_AGAIN = {"dropped": 1, "doubtful": 1}


def scenario(function: Scenario) -> Scenario:
    """Part of the matrix from now on."""
    SCENARIOS[function.__name__] = function
    return function


def run(ground: Ground, name: str) -> dict[str, Any]:
    """Run one scenario to its end; returns what it cost."""
    ground.begin()
    SCENARIOS[name](ground)
    ground.finish()
    billed: dict[str, Any] = ground.upstream.stats()["billed"]
    return billed


def fault(ground: Ground, path: str, kind: str, count: int = 1, **more: Any) -> None:
    """Let the next calls of a path fail."""
    ground.upstream.configure(faults=[{"path": path, "kind": kind, "count": count, **more}])


def end(ground: Ground, **oddity: Any) -> None:
    """Let the next batch end oddly."""
    ground.upstream.configure(ends=[{"count": 1, **oddity}])


@contextlib.contextmanager
def seen_running(ground: Ground, looks: int = 2) -> Iterator[None]:
    """The batches of this `with` do not end before somebody has looked so often; ask in another thread."""
    ground.upstream.configure(ends=[{"stuck": "in_progress"}])
    yield
    looked = "GET /v1/batches/{id}"
    until(lambda: ground.upstream.stats()["calls"].get(looked, 0) >= looks, "it was looked at", PATIENCE_SECONDS)
    ground.upstream.configure(ends=[])
    ground.upstream.finish()


@scenario
def batch(ground: Ground) -> None:
    """The happy road, with one request that is asked twice."""
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        with seen_running(ground):
            asked = pool.submit(ground.all_answered, "happy", 2)
            twice = pool.submit(ground.answered, "q0", "happy")
        asked.result()
        twice.result()


@scenario
def slow(ground: Ground) -> None:
    """A call that lasts longer than the time after which a lease is renewed."""
    fault(ground, "POST /v1/batches", "slow", seconds=0.6)
    ground.answered("slow", "slow")


@scenario
def sync(ground: Ground) -> None:
    """The synchronous lane, with one refusal on the way."""
    fault(ground, "POST /v1/chat/completions", "429")
    ground.answered("now", "sync", **{"X-Batch-Mode": "sync"})


@scenario
def doubt_found(ground: Ground) -> None:
    """The answer to "create" is lost, and the batch exists."""
    fault(ground, "POST /v1/batches", "reset_after")
    ground.all_answered("found", 2)


@scenario
def doubt_absent(ground: Ground) -> None:
    """The answer to "create" is lost, and the batch does not exist."""
    fault(ground, "POST /v1/batches", "reset_before")
    ground.all_answered("absent", 2)


@scenario
def upload_lost(ground: Ground) -> None:
    """The answer to the upload is lost: a file is at the upstream that nobody knows."""
    fault(ground, "POST /v1/files", "reset_after")
    ground.answered("up", "lost")


@scenario
def create_later(ground: Ground) -> None:
    """The upstream says "not now" to "create", and then takes it."""
    fault(ground, "POST /v1/batches", "429")
    ground.answered("later", "later")


@scenario
def create_refused(ground: Ground) -> None:
    """The upstream refuses the batch: everybody gets its words."""
    fault(ground, "POST /v1/batches", "400", count=99)
    ground.refused("no", "refused", 400)


@scenario
def missing(ground: Ground) -> None:
    """A line that the upstream has not run is queued again."""
    end(ground, expire_after=0.05, expire_frac=0.5, omit_unfinished=True)
    ground.all_answered("missing", 2)


@scenario
def dropped(ground: Ground) -> None:
    """A line that the upstream has run and lost is asked once more."""
    end(ground, drop=1, request_counts={"total": 1, "completed": 0, "failed": 0})
    assert ground.ask("again", "dropped").status_code == 200


@scenario
def doubtful(ground: Ground) -> None:
    """A result file is no result file until it has been read five times, and then its lines are missing."""
    end(ground, html=True)
    assert ground.ask("page", "doubtful").status_code == 200


@scenario
def cut(ground: Ground) -> None:
    """A download breaks off."""
    fault(ground, "GET /v1/files/*/content", "truncate")
    ground.answered("cut", "cut")


@scenario
def unlooked(ground: Ground) -> None:
    """A look at the running batch fails, and so does deleting a file afterwards."""
    ground.upstream.configure(
        faults=[
            {"path": "GET /v1/batches/*", "kind": "500", "count": 1},
            {"path": "DELETE /v1/files/*", "kind": "500", "count": 1},
        ]
    )
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        with seen_running(ground, looks=3):
            asked = pool.submit(ground.answered, "look", "unlooked")
        asked.result()


@scenario
def failing(ground: Ground) -> None:
    """A line that fails is tried again, and its last failure is the answer."""
    ground.refused("fail", "fail-500", 500)


@scenario
def queue_full(ground: Ground) -> None:
    """The upstream fails the batch because its queue is full: all lines go again, later."""
    end(ground, fail=[{"code": "token_limit_exceeded"}])
    ground.answered("full", "full")


@scenario
def wrong_line(ground: Ground) -> None:
    """The upstream fails the batch because of one line: that one is answered, the others go again."""
    end(ground, fail=[{"code": "invalid_request", "message": "no", "line": 1}])
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda n: ground.ask(f"q{n}", "wrong").status_code, range(2)))
    assert sorted(answers) == [200, 400]


@scenario
def late(ground: Ground) -> None:
    """A batch takes longer than its callers would wait: it is cancelled, and the rest is sent at once."""
    end(ground, stuck="in_progress", expire_frac=0.5)
    ground.upstream.configure(cancel_delay=0.1)
    ground.all_answered("late", 2, **{"X-Batch-Max-Wait": "1"})


@scenario
def unsubmitted(ground: Ground) -> None:
    """The upstream takes no files until the batch is late: it ends without having been submitted."""
    fault(ground, "POST /v1/files", "503", count=99)
    ground.answered("unsubmitted", "unsubmitted", **{"X-Batch-Max-Wait": "1"})


@scenario
def unbatchable(ground: Ground) -> None:
    """The model cannot be batched: it is sent synchronously, and remembered."""
    end(ground, fail=[{"code": "model_not_found", "message": "not in batches"}])
    model = f"{ground.prefix} unbatchable"
    ground.answered("live", model)
    ground.answered("live again", model)


@scenario
def hinted(ground: Ground) -> None:
    """The upstream says itself that the batch has ended."""
    ground.upstream.configure(
        webhook_url=f"{ground.stack.url}/webhooks/openai", webhook_secret=WEBHOOK_SECRET, batch_delay=0.5
    )
    ground.answered("hinted", "hinted")


@scenario
def withdrawn(ground: Ground) -> None:
    """Nobody can say whether Redis took a request: its caller is sent away, comes again, and pays once."""
    ground.lose("accept")
    ground.answered("doubt", "withdrawn")


@scenario
def attached(ground: Ground) -> None:
    """A request is asked again while it is at the upstream, and once more when it is answered."""
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        with seen_running(ground):
            first = pool.submit(ground.answered, "same", "attached")
            until(lambda: ground.upstream.stats()["batches"], "it is at the upstream", PATIENCE_SECONDS)
            second = pool.submit(ground.answered, "same", "attached")
        first.result()
        second.result()
    ground.answered("same", "attached")
