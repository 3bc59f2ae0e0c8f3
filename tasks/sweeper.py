"""Sweep: the safety net. Sets going again whatever stands still, from the records alone.

Celery over Redis does not hand out a dead worker's messages again under gevent, and a restart of
Redis can end a countdown, so no message is trusted to survive: every record carries the
time at which somebody must have worked on it.
"""

from __future__ import annotations

import json
import logging

from tasks import batches, connections, message, store
from tasks.models import BatchState, RequestState

logger = logging.getLogger(__name__)

#: Entries of the `settled` stream older than this have been read, or their readers look for themselves.
STREAM_MS = 60_000
REQUESTS_AT_ONCE = 1000
#: More than may wait: thousands of a group that is paused must not keep the sweep from the others.
MOST_PAGES = 200
#: kombu's own: messages that a worker holds, and when it got them.
UNACKED, UNACKED_INDEX = "unacked", "unacked_index"


def standing_batches() -> list[tuple[str, BatchState]]:
    """Batches on which no worker has begun the step that is due."""
    found = batches.overdue()
    for batch_id, state in found:
        logger.warning("%s stands still in state %s and is set going again", batch_id, state)
    return found


def standing_requests() -> None:
    """Queue requests again whose message a worker took with it when it died."""
    patience = int(store.PATIENCE_SECONDS * 1000)
    for _ in range(MOST_PAGES):
        looked, *queued = store.run("standing", patience, REQUESTS_AT_ONCE, message.request_template())
        for request_id in queued:
            logger.warning("%s was in no queue and is queued again", request_id.decode())
        if looked < REQUESTS_AT_ONCE:
            return


def settled_messages() -> None:
    """Drop messages that dead workers held, once their work is done: kombu never would."""
    client = connections.client()
    before = store.now_ms() / 1000 - 2 * store.PATIENCE_SECONDS
    tags = client.zrangebyscore(UNACKED_INDEX, "-inf", before, start=0, num=REQUESTS_AT_ONCE)
    for tag in tags:
        held = client.hget(UNACKED, tag)
        if held is None or _is_over(held):
            client.hdel(UNACKED, tag)
            client.zrem(UNACKED_INDEX, tag)


def _is_over(held: bytes) -> bool:
    headers = json.loads(held)[0].get("headers", {})
    client = connections.client()
    found = message.ID_PATTERN.search(headers.get("argsrepr") or "")
    if found is None:
        return headers.get("task") in message.TICKS
    request = client.hget(f"{store.PREFIX}request:{found[0]}", "state")
    batch = client.hget(f"{store.PREFIX}batch:{found[0]}", "state")
    return request in {None, RequestState.SETTLED.encode()} and batch in {None, BatchState.DONE.encode()}


def trim_stream() -> None:
    """Drop old entries of the `settled` stream."""
    connections.client().xtrim(f"{store.PREFIX}settled", minid=store.now_ms() - STREAM_MS, approximate=True)
