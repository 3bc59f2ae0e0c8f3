"""The right to work on a batch: one holder at a time, renewed while it works, lost when it dies."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Final

import gevent
from gevent.monkey import is_module_patched

from tasks import backoff, batches, store
from tasks.batches import Batch
from tasks.errors import NotOurTurn
from tasks.models import BatchState, new_id

logger = logging.getLogger(__name__)

#: A worker that dies leaves its batch to the sweep after this time.
LEASE_SECONDS: Final = 25.0
RENEW_SECONDS: Final = 8.0


class Lease:
    """The right to work on one batch, and its record as this holder has left it.

    Attributes:
        batch: the record, kept up to date by `advance`.
    """

    def __init__(self, batch: Batch, token: str) -> None:
        self.batch = batch
        self._token = token

    def advance(
        self,
        state: BatchState,
        *,
        release: bool = False,
        pause_seconds: float = 0.0,
        outcome: str = "",
        end: str = "",
        **fields: Any,
    ) -> None:
        """Move the batch on, or note `fields` where `state` is the present one.

        Args:
            release: give the lease back; the next step begins after `pause_seconds`.
            outcome: "successful" or "failed", once per batch: how it ended at the upstream.
            end: the upstream's status with it, or "refused".

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
            int(batches.SLACK_SECONDS * 1000),
            outcome,
            end,
            store.RETENTION_SECONDS,
            int(LEASE_SECONDS * 1000),
            new_id(),
            *(part for pair in fields.items() for part in pair),
        )
        if not moved:
            raise NotOurTurn
        if state is not self.batch.state:
            logger.info("%s %s%s", self.batch.id, state, f" after {self.batch.state}")
        known = {name: value for name, value in fields.items() if name in batches.FIELDS}
        self.batch = replace(self.batch, state=state, **known)

    def back_off(self, why: str, retry_after_seconds: float | None = None, **fields: Any) -> float:
        """Give the lease back after a try that came to nothing; returns the seconds to wait."""
        batch = self.batch
        seconds = backoff.seconds(batch.failures, retry_after_seconds)
        left = batch.seconds_left(store.now_ms())
        if left:
            seconds = min(seconds, left + 0.1)  # whoever must be stopped is stopped in time
        logger.warning("%s stays %s for %.1f s: %s", batch.id, batch.state, seconds, why)
        self.advance(batch.state, release=True, pause_seconds=seconds, failures=batch.failures + 1, **fields)
        return seconds


@contextlib.contextmanager
def lease(batch_id: str, *states: BatchState, early: bool = False) -> Iterator[Lease]:
    """Hold the lease of a batch while a step is done.

    A greenlet renews it. If that fails the step is stopped where it stands, its call to the
    upstream included, before anybody else can begin.

    Args:
        early: although its pause is not over.

    Raises:
        NotOurTurn: the batch is elsewhere, or the lease was lost on the way.
    """
    token = new_id()
    length = int(LEASE_SECONDS * 1000)
    flat = store.run("lease", batch_id, token, length, int(early), *states)
    if len(flat) < 2:
        if flat == [b"newer"]:
            store.say_newer("batch", batch_id)
        raise NotOurTurn(flat[0].decode() if flat else "held")
    with renewing(lambda: len(store.run("lease", batch_id, token, length, 0)) > 1):
        yield Lease(batches.from_record(batch_id, flat), token)


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
