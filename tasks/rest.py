"""The rest of a batch: requests that got no answer from it. Time decides what becomes of them.

While there is time they are queued again. When their batch is late they are sent synchronously, as FALLBACK
says. When their own deadline has come they are answered 504.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from tasks import batches, connections, control, message, settle, stage, store
from tasks.batches import Batch
from tasks.models import Lane
from tasks.settings import settings

logger = logging.getLogger(__name__)

#: How often a request is asked again whose answer the upstream lost: it may have been paid.
MISSING_TRIES = 1
FALLBACK = {"flex": Lane.FLEX, "standard": Lane.SYNC}


def submit_again(batch: Batch, ids: Sequence[str], *, counter: str = "") -> None:
    """Deal with requests that the upstream did not run, or that it may run again."""
    if not ids:
        return
    if _settled_as_canceled(batch, ids):
        return
    now = store.now_ms()
    over = _over(batch, ids, now)
    if over:
        logger.warning("%s: %d requests have reached their deadline", batch.id, len(over))
        settle.settle((i, batch.id, stage.deadline_reply()) for i in ids if i in over)
    left = [i for i in ids if i not in over]
    if not batch.is_late(now):
        count = settle.requeue(left, batch.id, message.group_queue(batch.group.id), counter=counter)
        logger.info("%s: %d requests queued again", batch.id, count)
    elif settings().fallback in FALLBACK:
        send_synchronously(batch, left, FALLBACK[settings().fallback])
    else:
        late = settle.error_reply(
            504, "The batch was not done within the longest wait, and LLM_PROXY_FALLBACK is off.", code="batch_late"
        )
        settle.settle((i, batch.id, late) for i in left)


def submit_lost_again(batch: Batch, ids: Sequence[str]) -> None:
    """Deal with requests that are in no result file although they should be: once more, then an error."""
    missed = numbers(ids, "missing")
    submit_again(batch, [i for i in ids if missed[i] < MISSING_TRIES], counter="missing")
    lost = settle.error_reply(502, "The upstream returned no result for this request.", code="result_missing")
    settle.settle((i, batch.id, lost) for i in ids if missed[i] >= MISSING_TRIES)


def send_synchronously(batch: Batch, ids: Sequence[str], lane: Lane) -> None:
    """Hand requests over to the synchronous lane."""
    if _settled_as_canceled(batch, ids):
        return
    count = settle.requeue(ids, batch.id, message.SYNC_QUEUE, lane=lane)
    logger.warning("%s: %d requests are sent synchronously (%s)", batch.id, count, lane)


def _settled_as_canceled(batch: Batch, ids: Sequence[str]) -> bool:
    """Answer requests whose batch the operator has canceled, however late that came."""
    if not control.is_canceled(batch.id):
        return False
    settle.settle((request_id, batch.id, control.canceled_reply()) for request_id in ids)
    return True


def has_no_other_way(batch: Batch) -> bool:
    """Whether a line that fails now cannot be tried again in time, so that its failure is the answer."""
    now = store.now_ms()
    if batch.is_late(now) and settings().fallback in FALLBACK:
        return False
    return batch.must_stop(now)


def _over(batch: Batch, ids: Sequence[str], now_ms: int) -> set[str]:
    """Requests that no further batch would answer before their deadline."""
    age = batches.deadline_ms() - batches.cancelling_ms()
    if now_ms < batch.oldest + age:
        return set()
    accepted = numbers(ids, "accepted")
    return {i for i in ids if now_ms >= accepted[i] + age}


def numbers(ids: Sequence[str], field: str) -> dict[str, int]:
    """A number in the record of each request, 0 where there is none."""
    pipeline = connections.client().pipeline(transaction=False)
    for request_id in ids:
        pipeline.hget(f"{store.PREFIX}request:{request_id}", field)
    return {request_id: int(value or 0) for request_id, value in zip(ids, pipeline.execute(), strict=True)}
