"""Poll: one look at a submitted batch; the task repeats itself until the batch is terminal.

A batch that is late or near its deadline is cancelled, once the upstream is asked and then as often as it
seems not to have heard; it is delivered when it has ended, whichever way that turns out.
"""

from __future__ import annotations

import logging
from typing import Any

from tasks import outcomes, quota, stage, store
from tasks.batches import Batch
from tasks.errors import NotOurTurn, UpstreamRefused, UpstreamTrouble
from tasks.leases import Lease
from tasks.models import BatchState
from tasks.providers import registry
from tasks.providers.catalogue import providers
from tasks.providers.dialect import RUNNING, TERMINAL, Upstream
from tasks.settings import settings

logger = logging.getLogger(__name__)

#: States in which there is nothing left to look for: delivery takes over.
PAST: frozenset[str] = frozenset({BatchState.ENDED, BatchState.DELIVERING, BatchState.CLEANING, BatchState.DONE})
#: Part of a batch's age that passes between two looks.
PAUSE_PER_AGE = 0.1
#: Longest pause while the upstream validates: most failures come to light then.
VALIDATING_SECONDS = 2.0
CANCELLING_SECONDS = 5.0
#: A batch has been admitted when it is in one of these.
ADMITTED = frozenset({"in_progress", "finalizing", "completed", "expired"})


def poll(batch_id: str) -> float | None:
    """Look once.

    Returns:
        None when the batch has ended, else the seconds until the next look.

    Raises:
        NotOurTurn: another loop looks after it.
    """
    try:
        return stage.run(batch_id, BatchState.SUBMITTED, work=_look, turns=stage.LOOKS)
    except NotOurTurn as error:
        if error.state not in PAST:
            raise
    return None


def look(batch_id: str) -> bool:
    """Look now, because the upstream says that the batch has ended; returns whether it has.

    The loop that polls it is not disturbed: if the batch still runs, its next look stays due when it was.

    Raises:
        NotOurTurn: it is looked at just now, or has ended already.
    """
    return stage.run(batch_id, BatchState.SUBMITTED, work=_glance, turns=stage.LOOKS, early=True) is None


def _glance(held: Lease) -> float | None:
    batch = held.batch
    answer, status = _retrieve(batch, registry.upstream(batch.group))
    if status in TERMINAL:
        _end(held, status, answer)
        return None
    logger.info("%s is still %s, whatever the event said", batch.id, status[:100])
    held.advance(BatchState.SUBMITTED, release=True)  # the loop may look whenever it comes
    return 0.0


def _look(held: Lease) -> float | None:
    batch, upstream = held.batch, registry.upstream(held.batch.group)
    answer, status = _retrieve(batch, upstream)
    if status in TERMINAL:
        _end(held, status, answer)
        return None
    if status not in RUNNING:
        logger.warning("%s has the unknown status %r and is polled on", batch.id, status[:100])
        store.run("count", "unknown_statuses")
    now = store.now_ms()
    if batch.is_over(now):
        logger.error("%s is %s at its deadline and is given up", batch.id, status[:100])
        stage.give_up(held, stage.deadline_reply())
        return None
    if batch.must_stop(now) and status != "cancelling":
        _cancel(held, upstream, now)
    pause = pause_seconds(held.batch, status, now)
    held.advance(
        BatchState.SUBMITTED,
        release=True,
        pause_seconds=pause,
        upstream_status=status,
        failures=0,
        **outcomes.progress(answer),
    )
    return pause


def _retrieve(batch: Batch, upstream: Upstream) -> tuple[dict[str, Any], str]:
    """The upstream's object of the batch and its status."""
    answer = upstream.retrieve(batch.upstream_id)
    status = outcomes.status(answer)
    if status in ADMITTED and batch.upstream_status not in ADMITTED:
        quota.admitted(batch.id)
    return answer, status


def _cancel(held: Lease, upstream: Upstream, now_ms: int) -> None:
    """Ask for an early end; whether that was heard, the next look tells."""
    batch = held.batch
    if not batch.cancel_at:
        logger.warning("%s is cancelled: it is %s", batch.id, _why(batch, now_ms))
        held.advance(BatchState.SUBMITTED, cancel_at=now_ms)
    try:
        upstream.cancel(batch.upstream_id)
    except (UpstreamTrouble, UpstreamRefused) as error:
        logger.warning("%s could not be cancelled: %s", batch.id, error)


def _why(batch: Batch, now_ms: int) -> str:
    if batch.canceled:
        return "canceled by the operator"
    return "late" if batch.is_late(now_ms) else "near its deadline"


def _end(held: Lease, status: str, answer: dict[str, Any]) -> None:
    logger.info("%s is %s after %.1f s", held.batch.id, status, age_seconds(held.batch, store.now_ms()))
    held.advance(
        BatchState.ENDED,
        release=True,
        outcome="successful" if status == "completed" else "failed",
        end=status,
        upstream_status=status,
        failures=0,
        **outcomes.batch_fields(answer),
    )


def age_seconds(batch: Batch, now_ms: int) -> float:
    """Time since the upstream took the batch."""
    return max(0.0, (now_ms - batch.submitted) / 1000)


def pause_seconds(batch: Batch, status: str, now_ms: int) -> float:
    """A tenth of the batch's age, within the configured bounds, and no longer than until it must be stopped."""
    config = settings()
    bears = providers()[batch.group.provider].poll_min_seconds
    most = config.poll_max_seconds
    if status == "validating":
        most = max(config.poll_min_seconds, VALIDATING_SECONDS)
    elif batch.cancel_at:
        most = max(config.poll_min_seconds, CANCELLING_SECONDS)
    pause = min(most, max(config.poll_min_seconds, age_seconds(batch, now_ms) * PAUSE_PER_AGE))
    return min(max(pause, bears), batch.seconds_left(now_ms) + 0.05)
