"""Batch records: read them, take their lease, move them on by compare-and-set."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Final

import gevent
from gevent.monkey import is_module_patched

from tasks import backoff, connections, store
from tasks.errors import NotOurTurn, UpstreamTrouble
from tasks.models import BatchState, Group, new_id
from tasks.settings import settings

logger = logging.getLogger(__name__)

#: A worker that dies leaves its batch to the sweep after this time.
LEASE_SECONDS: Final = 25.0
RENEW_SECONDS: Final = 8.0
#: A released batch whose next step has not begun this long after its pause is taken up by the sweep.
SLACK_SECONDS: Final = 15.0
#: The upstream's clock and Redis' may differ by this much.
CLOCK_SKEW_SECONDS: Final = 3600.0
#: The rest comes with the next sweep.
OVERDUE_AT_ONCE: Final = 500
NUMBER_FIELDS: Final = (
    "submitted",
    "uploads",
    "reads",
    "failures",
    "create_at",
    "progress_completed",
    "progress_failed",
)
#: Upstream batch fields that hold text for people.
TEXT_FIELDS: Final = ("upstream_id", "upstream_status", "input_file", "output_file", "error_file", "errors", "refusal")


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """A batch record as it was read.

    Attributes:
        claimed, submitted: Redis' time in ms at which it came into that state, 0 before.
        uploads: uploads that were begun.
        reads: passes over the result files that left doubts whether they were whole.
        failures: consecutive tries of the present step that came to nothing.
        create_at: Redis' time in ms at which the latest "create" was about to be sent, 0 before.
        progress_completed, progress_failed: the upstream's latest `request_counts`.
        refusal: the answer that settles every line, as JSON, when the upstream refused the whole batch.
        errors: the upstream's `errors.data` as JSON.
    """

    id: str
    state: BatchState
    group: Group
    count: int
    claimed: int
    submitted: int = 0
    uploads: int = 0
    reads: int = 0
    failures: int = 0
    create_at: int = 0
    progress_completed: int = 0
    progress_failed: int = 0
    upstream_id: str = ""
    upstream_status: str = ""
    input_file: str = ""
    output_file: str = ""
    error_file: str = ""
    errors: str = ""
    refusal: str = ""

    @property
    def since_seconds(self) -> float:
        """Unix time before which the upstream cannot have anything of this batch, whatever its clock says."""
        return self.claimed / 1000 - CLOCK_SKEW_SECONDS


FIELDS: Final = frozenset(f.name for f in fields(Batch))


def _batch(batch_id: str, flat: Sequence[bytes]) -> Batch:
    record = {k.decode(): v.decode() for k, v in zip(flat[::2], flat[1::2], strict=True)}
    group = Group(**{name: record[name] for name in ("credential", "endpoint", "model", "organization", "project")})
    rest: dict[str, Any] = {name: int(record.get(name, 0)) for name in NUMBER_FIELDS}
    rest |= {name: record.get(name, "") for name in TEXT_FIELDS}
    return Batch(
        id=batch_id,
        state=BatchState(record["state"]),
        group=group,
        count=int(record["count"]),
        claimed=int(record["claimed"]),
        **rest,
    )


def claim(group_id: str) -> str | None:
    """Close one batch of a group if it is full or old enough; returns the new batch's id."""
    config = settings()
    batch_id = new_id()
    count = store.run(
        "claim",
        group_id,
        batch_id,
        config.max_batch_requests,
        config.max_batch_mb * 1_000_000,
        store.EMBEDDING_INPUTS,
        int(config.max_hold_seconds * 1000),
        int(SLACK_SECONDS * 1000),
    )
    return batch_id if count else None


def open_groups() -> list[str]:
    """Groups that have queued requests, the oldest first."""
    return [group.decode() for group in connections.client().zrange(f"{store.PREFIX}groups", 0, -1)]


def overdue() -> list[tuple[str, BatchState]]:
    """Batches that nobody works on although it is their time, with their state."""
    flat = store.run("overdue", int(store.PATIENCE_SECONDS * 1000), OVERDUE_AT_ONCE)
    return [
        (batch_id.decode(), BatchState(state.decode())) for batch_id, state in zip(flat[::2], flat[1::2], strict=True)
    ]


def lines(batch_id: str) -> list[tuple[str, int]]:
    """Request id and size in bytes of each line, in the order of the input file."""
    raw = connections.client().lrange(f"{store.PREFIX}lines:{batch_id}", 0, -1)
    return [(line[:32].decode(), int(line[33:])) for line in raw]


def drop_lines(batch_id: str, request_ids: Sequence[str]) -> None:
    """Forget lines that were not written, so that the upstream's line numbers count ours."""
    sizes = dict(lines(batch_id)) if request_ids else {}
    for request_id in request_ids:
        connections.client().lrem(f"{store.PREFIX}lines:{batch_id}", 1, f"{request_id}:{sizes[request_id]}")


class Lease:
    """The right to work on one batch, and its record as this holder has left it.

    Attributes:
        batch: the record, kept up to date by `advance`.
    """

    def __init__(self, batch: Batch, token: str) -> None:
        self.batch = batch
        self._token = token

    def advance(
        self, state: BatchState, *, release: bool = False, pause_seconds: float = 0.0, outcome: str = "", **fields: Any
    ) -> None:
        """Move the batch on, or note `fields` where `state` is the present one.

        Args:
            release: give the lease back; the next step begins after `pause_seconds`.
            outcome: "successful" or "failed", once per batch: how it ended at the upstream.

        Raises:
            NotOurTurn: the lease was lost.
        """
        moved = store.run(
            "advance",
            self.batch.id,
            self._token,
            self.batch.state,
            state,
            "release" if release else "keep",
            int(pause_seconds * 1000),
            int(SLACK_SECONDS * 1000),
            outcome,
            store.RETENTION_SECONDS,
            int(LEASE_SECONDS * 1000),
            *(part for pair in fields.items() for part in pair),
        )
        if not moved:
            raise NotOurTurn
        if state is not self.batch.state:
            logger.info("%s %s%s", self.batch.id, state, f" after {self.batch.state}")
        known = {name: value for name, value in fields.items() if name in FIELDS}
        self.batch = replace(self.batch, state=state, **known)

    def back_off(self, error: UpstreamTrouble) -> float:
        """Give the lease back after a try that came to nothing; returns the seconds to wait."""
        seconds = backoff.seconds(self.batch.failures, error.retry_after_seconds)
        logger.warning("%s stays %s for %.1f s: %s", self.batch.id, self.batch.state, seconds, error)
        self.advance(self.batch.state, release=True, pause_seconds=seconds, failures=self.batch.failures + 1)
        return seconds


@contextlib.contextmanager
def lease(batch_id: str, *states: BatchState) -> Iterator[Lease]:
    """Hold the lease of a batch while a step is done.

    A greenlet renews it. If that fails the step is stopped where it stands, its call to the
    upstream included, before anybody else can begin.

    Raises:
        NotOurTurn: the batch is elsewhere, or the lease was lost on the way.
    """
    token = new_id()
    length = int(LEASE_SECONDS * 1000)
    flat = store.run("lease", batch_id, token, length, *states)
    if len(flat) < 2:
        raise NotOurTurn(flat[0].decode() if flat else "held")
    with renewing(lambda: len(store.run("lease", batch_id, token, length)) > 1):
        yield Lease(_batch(batch_id, flat), token)


@contextlib.contextmanager
def renewing(renew: Callable[[], bool]) -> Iterator[None]:
    """Call `renew` every RENEW_SECONDS; when it fails, raise NotOurTurn in the holder.

    Under gevent the thread is a greenlet. A worker with another pool, such as one started by hand for
    one group's queue, has a real thread, which renews but cannot interrupt.
    """
    holder, hub, left = gevent.getcurrent(), gevent.get_hub(), threading.Event()

    def interrupt() -> None:
        if not left.is_set():  # asked in the hub: the holder cannot leave in between
            holder.throw(NotOurTurn())

    def keep() -> None:
        renewed_at, pause = time.monotonic(), RENEW_SECONDS
        while not left.wait(pause):
            try:
                kept = renew()
                renewed_at, pause = time.monotonic(), RENEW_SECONDS
            except Exception as error:  # whatever it is: a lease that is not renewed in time is lost
                logger.warning("a lease could not be renewed: %s", type(error).__name__)
                # A moment without Redis is no reason to cut a call that is being paid.
                kept = time.monotonic() - renewed_at < LEASE_SECONDS - 2 * RENEW_SECONDS
                pause = RENEW_SECONDS / 8
            if not kept:
                if is_module_patched("threading"):
                    hub.loop.run_callback(interrupt)
                return

    threading.Thread(target=keep, daemon=True).start()
    try:
        yield
    finally:
        left.set()
