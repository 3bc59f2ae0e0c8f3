"""TASK_EVENTS: batched requests as tasks in Flower, with their real state and time.

Nobody executes them one by one, so their events are sent here, when their batch is closed and when it is
delivered: one message of the event exchange for each 500 requests. Off by default.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any, Final

from tasks import connections, message, store
from tasks.models import RequestState
from tasks.settings import settings

logger = logging.getLogger(__name__)

CHUNK: Final = 500
#: What is shown instead of a body.
REDACTED: Final = "('{id}',)"


def received(app: Any, ids: Sequence[str]) -> None:
    """Say that requests have been closed into a batch."""
    _send(app, (("task-received", _description(request_id)) for request_id in ids))


def ended(app: Any, ids: Sequence[str]) -> None:
    """Say which of a batch's requests are settled, and after what time."""
    if not settings().task_events:
        return
    client = connections.client()
    for start in range(0, len(ids), CHUNK):
        part = ids[start : start + CHUNK]
        pipeline = client.pipeline(transaction=False)
        for request_id in part:
            pipeline.hmget(f"{store.PREFIX}request:{request_id}", "state", "accepted", "settled", "kind")
        _send(app, _ends(part, pipeline.execute()))


def _ends(ids: Sequence[str], records: Sequence[Sequence[bytes | None]]) -> Iterable[tuple[str, dict[str, Any]]]:
    for request_id, (state, accepted, settled, kind) in zip(ids, records, strict=True):
        if state != RequestState.SETTLED.encode() or not accepted or not settled:
            continue
        code = int((kind or b",0").split(b",")[1])
        if 200 <= code < 300:
            runtime = (int(settled) - int(accepted)) / 1000
            yield "task-succeeded", {"uuid": request_id, "result": f"status {code}", "runtime": runtime}
        else:
            yield "task-failed", {"uuid": request_id, "exception": f"status {code}", "traceback": ""}


def _description(request_id: str) -> dict[str, Any]:
    return {
        "uuid": request_id,
        "name": message.REQUEST_TASK,
        "args": REDACTED.format(id=request_id),
        "kwargs": "{}",
        "retries": 0,
        "eta": None,
        "expires": None,
    }


def _send(app: Any, events: Iterable[tuple[str, dict[str, Any]]]) -> None:
    """Best effort: what people see must not hold up what they wait for."""
    if not settings().task_events:
        return
    try:
        with app.connection_for_write() as connection:
            dispatcher = app.events.Dispatcher(connection, buffer_group={"task"}, buffer_limit=CHUNK)
            with dispatcher:
                for kind, fields in events:
                    dispatcher.send(kind, **fields)
                dispatcher.flush()
    except Exception as error:
        logger.warning("task events were not sent: %s", type(error).__name__)
