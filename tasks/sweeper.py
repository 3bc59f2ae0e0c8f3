"""Sweep: the safety net. Sets going again whatever stands still, from the records alone.

Celery over Redis does not hand out a dead worker's messages again under gevent, and a restart of
Redis can end a countdown, so no message is trusted to survive: every record carries the
time at which somebody must have worked on it.
"""

from __future__ import annotations

import logging

from tasks import batches, connections, message, store
from tasks.models import BatchState

logger = logging.getLogger(__name__)

#: Entries of the `settled` stream older than this have been read, or their readers look for themselves.
STREAM_MS = 600_000


def standing_batches() -> list[tuple[str, BatchState]]:
    """Batches on which no worker has begun the step that is due."""
    found = batches.overdue()
    for batch_id, state in found:
        logger.warning("%s stands still in state %s and is set going again", batch_id, state)
    return found


def standing_requests() -> int:
    """Queue overdue requests of the synchronous lane again; returns how many.

    While messages wait in the queue nothing is lost: the lane is only busy.
    """
    client = connections.client()
    if client.llen(message.SYNC_QUEUE):
        return 0
    ids = client.zrangebyscore(f"{store.PREFIX}sync", "-inf", store.now_ms(), start=0, num=1000)
    for raw in ids:
        request_id = raw.decode()
        if client.exists(f"{store.PREFIX}body:{request_id}"):
            logger.warning("%s stands still on the synchronous lane and is queued again", request_id)
            client.lpush(message.SYNC_QUEUE, message.request_message(request_id, message.SYNC_QUEUE))
            client.zadd(
                f"{store.PREFIX}sync", {raw: store.now_ms() + int(batches.SLACK_SECONDS * 1000)}, xx=True, gt=True
            )
        else:
            client.zrem(f"{store.PREFIX}sync", raw)
    return len(ids)


def trim_stream() -> None:
    """Drop old entries of the `settled` stream."""
    connections.client().xtrim(f"{store.PREFIX}settled", minid=store.now_ms() - STREAM_MS, approximate=True)
