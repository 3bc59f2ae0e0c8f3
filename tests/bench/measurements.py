"""The measurements, one function each; every one opens a stack of its own and yields figures."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests import running
from tests.bench import bench
from tests.bench.bench import Bench
from tests.bench.costs import KINDS, Costs
from tests.bench.load import Load, Report

SPEED, COST, OTHER = "Speed", "Processor time per request, µs", "Size and cost"
#: Simultaneous requests: web processes, longest time (s), longest p50 and p99 after completion (s).
BURSTS = {
    100: (2, 12.0, 1.0, 1.5),
    1_000: (2, 9.5, 1.3, 2.0),
    5_000: (2, 12.0, 2.5, 4.0),
    20_000: (2, 30.0, 6.0, 12.0),
    50_000: (4, None, None, None),
}
#: No measurement takes longer.
MOST_SECONDS = 400.0
NEVER = "1000"
WEBHOOK_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
LINE_BYTES = 4_000
QUEUED, WARM_UP, WATCH_SECONDS = 5_000, 500, 20.0
#: Of a question of 1,000 bytes, as JSON.
BODY_BYTES = 1_076


@dataclass(frozen=True)
class Figure:
    """One number, where it stands, and the most (or, if `least`, the least) that it should be."""

    table: str
    row: str
    column: str
    value: float
    goal: float | None = None
    least: bool = False
    digits: int = 1

    @property
    def missed(self) -> bool:
        """Whether it should be another."""
        if self.goal is None:
            return False
        return self.value < self.goal if self.least else self.value > self.goal


Figures = Iterator[Figure]


def burst(count: int, delay: float) -> Figures:
    """So many requests at the same moment."""
    web_processes, wall, p50, p99 = BURSTS[count]
    row = f"{count:,} at once"
    with bench.opened(batch_delay=delay, web_processes=web_processes) as opened:
        if count == QUEUED:  # the first answer of all lets a front look for everything that it waits for
            _run(opened, 10)
        report, costs = _run(opened, count)
        paid = opened.upstream.stats()["billed"]
        yield Figure(SPEED, row, "wall, s", report.wall_seconds, wall)
        yield from _after_completion(row, report, p50, p99)
        yield Figure(SPEED, row, "wrong, errors", _bad(report), 0, digits=0)
        yield Figure(SPEED, row, "paid twice", len(paid["more_than_once"]), 0, digits=0)
        for kind in KINDS:
            yield Figure(COST, row, kind, costs.cpu_seconds[kind] / count * 1e6, digits=0)
        yield Figure(COST, row, "all", sum(costs.cpu_seconds.values()) / count * 1e6, digits=0)
        if count >= QUEUED:
            grown = costs.growth_bytes["web"] / count / 1000
            yield Figure(OTHER, row, "memory of the front per waiting client, kB", grown, 30)
        if count == QUEUED:
            yield Figure(OTHER, row, "Redis commands per request", costs.commands / count, 12)


def webhook(delay: float) -> Figures:
    """A hundred requests, and the upstream says when their batch has ended: nobody looks for it in time."""
    row = "100 with a webhook"
    with bench.opened(
        batch_delay=delay, LLM_PROXY_WEBHOOK_SECRETS=WEBHOOK_SECRET, LLM_PROXY_POLL_MIN_SECONDS="30"
    ) as opened:
        opened.upstream.configure(webhook_url=f"{opened.stack.url}/webhooks/openai", webhook_secret=WEBHOOK_SECRET)
        report, _ = _run(opened, 100)
        yield from _after_completion(row, report, 0.3, None)
        yield Figure(SPEED, row, "wrong, errors", _bad(report), 0, digits=0)


def embeddings(delay: float) -> Figures:
    """Replies of 30 kB."""
    row = "5,000 embeddings of 30 kB"
    with bench.opened(batch_delay=delay) as opened:
        opened.upstream.configure(reply_bytes=15_000)
        report, _ = _run(opened, 5_000, endpoint="embeddings")
        dropped = int(opened.redis.client.info("stats").get("client_output_buffer_limit_disconnections", 0))
        yield Figure(SPEED, row, "wall, s", report.wall_seconds, 25)
        yield from _after_completion(row, report, None, None)
        yield Figure(SPEED, row, "wrong, errors", _bad(report), 0, digits=0)
        yield Figure(OTHER, row, "clients that Redis dropped", dropped, 0, digits=0)


def idle(delay: float) -> Figures:
    """Nobody asks."""
    with bench.opened(batch_delay=delay) as opened:
        _run(opened, 10)
        time.sleep(5)
        yield _share(_watch(opened), "nobody asks", 3)


def waiting(delay: float) -> Figures:
    """20,000 clients wait for batches that take long."""
    with bench.opened(batch_delay=600 * delay) as opened:
        load = Load(opened.stack.url, 20_000)
        try:
            running.until(lambda: opened.accepted() == 20_000, "20,000 are accepted", MOST_SECONDS)
            running.until(lambda: _submitted(opened) == 20_000, "20,000 are in batches", MOST_SECONDS)
            time.sleep(2 * WATCH_SECONDS)
            yield _share(_watch(opened), "20,000 wait", 10)
        finally:
            load.stop()


def queued(delay: float) -> Figures:
    """What a request takes in Redis while it is queued."""
    with bench.opened(
        batch_delay=delay, LLM_PROXY_MAX_HOLD_SECONDS=NEVER, LLM_PROXY_MAX_BATCH_REQUESTS="50000"
    ) as opened:
        first = Load(opened.stack.url, WARM_UP)  # whose scripts Redis compiles
        running.until(lambda: opened.accepted() == WARM_UP, "the first are accepted", MOST_SECONDS)
        before = _memory(opened)
        load = Load(opened.stack.url, QUEUED)
        try:
            running.until(lambda: opened.accepted() == WARM_UP + QUEUED, "all are accepted", MOST_SECONDS)
            row = f"{QUEUED:,} queued, bodies of {BODY_BYTES / 1000} kB"
            size = (_memory(opened) - before) / QUEUED / 1000
            yield Figure(OTHER, row, "memory of Redis per request, kB", size, 1.5 * BODY_BYTES / 1000 + 1, digits=2)
        finally:
            first.stop()
            load.stop()


def large(delay: float) -> Figures:
    """One batch of 50,000 lines and 200 MB."""
    count = 50_000
    row = f"one batch of {count:,} × 4 kB"
    with bench.opened(
        batch_delay=delay,
        web_processes=4,
        LLM_PROXY_MAX_HOLD_SECONDS="100",
        LLM_PROXY_MAX_BATCH_REQUESTS=str(count),
        LLM_PROXY_MAX_BATCH_MB="200",
    ) as opened:
        opened.upstream.configure(reply_bytes=LINE_BYTES - 700)
        report, costs = _run(opened, count, body_bytes=LINE_BYTES - 150)
        worker = sum(used for kind, used in costs.cpu_seconds.items() if kind.startswith("worker"))
        yield Figure(SPEED, row, "wall, s", report.wall_seconds)
        yield from _after_completion(row, report, None, None)
        yield Figure(SPEED, row, "wrong, errors", _bad(report), 0, digits=0)
        yield Figure(OTHER, row, "processor time of the workers, s", worker, 60)
        peak = costs.peak_bytes["worker-transfer"] / 1e6
        yield Figure(OTHER, row, "memory of the worker that delivers, MB", peak, 150 + 1.5 * LINE_BYTES / 1e6, digits=0)


def accepting(_: float) -> Figures:
    """What one and two web processes accept, each with the same small share of a core so that cores allow."""
    rates = [_accepted_rate(processes) for processes in (1, 2)]
    row = "accepting"
    yield Figure(OTHER, row, "requests accepted per second of one front process' time", rates[0], digits=0)
    yield Figure(OTHER, row, "the same with two, times", rates[1] / rates[0], 0.8, least=True, digits=2)


def _accepted_rate(web_processes: int) -> float:
    """Requests for each second of a front's processor time.

    The time that a request costs a process is what bounds its rate when cores allow; here generator, front and Redis
    share them. So two processes accept twice as much as one when this stays what it is.
    """
    count = 4_000
    with bench.opened(
        web_processes=web_processes, LLM_PROXY_MAX_HOLD_SECONDS=NEVER, LLM_PROXY_MAX_BATCH_REQUESTS="50000"
    ) as opened:
        with opened.processes.measured() as costs:
            load = Load(opened.stack.url, count)
            running.until(lambda: opened.accepted() == count, "all are accepted", MOST_SECONDS)
        load.stop()
    return count / costs.cpu_seconds["web"]


def _run(opened: Bench, count: int, *, endpoint: str = "chat", body_bytes: int = 1000) -> tuple[Report, Costs]:
    with opened.processes.measured() as costs:
        report = Load(opened.stack.url, count, endpoint=endpoint, body_bytes=body_bytes).wait(MOST_SECONDS)
    return report, costs


def _bad(report: Report) -> int:
    return report.wrong + sum(report.errors.values())


def _after_completion(row: str, report: Report, p50: float | None, p99: float | None) -> Figures:
    cuts = statistics.quantiles(report.added_seconds, n=100)
    if report.errors:
        sys.stderr.write(f"{row}: {report.errors}\n")
    yield Figure(SPEED, row, "p50 after completion, s", cuts[49], p50, digits=2)
    yield Figure(SPEED, row, "p99 after completion, s", cuts[98], p99, digits=2)


def _watch(opened: Bench) -> Costs:
    with opened.processes.measured() as costs:
        time.sleep(WATCH_SECONDS)
    return costs


def _share(costs: Costs, row: str, goal: float) -> Figure:
    share = sum(costs.cpu_seconds.values()) / costs.seconds * 100
    return Figure(OTHER, row, "processor time of all processes, % of a core", share, goal)


def _submitted(opened: Bench) -> int:
    return sum(batch["lines"] for batch in opened.upstream.stats()["batches"])


def _memory(opened: Bench) -> int:
    return int(opened.redis.client.info("memory")["used_memory"])


#: In this order: by name what `--only` takes.
MEASUREMENTS: dict[str, Callable[[float], Figures]] = {
    **{str(count): (lambda delay, count=count: burst(count, delay)) for count in BURSTS},  # type: ignore[misc]  # bound now
    "webhook": webhook,
    "embeddings": embeddings,
    "idle": idle,
    "waiting": waiting,
    "queued": queued,
    "large": large,
    "accepting": accepting,
}
