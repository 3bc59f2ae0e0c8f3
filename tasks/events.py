"""TASK_EVENTS: batched requests as tasks in Flower, with their real state and time.

Nobody executes them one by one, so their events are sent here, when their batch is closed and when it is
delivered: one message of the event exchange for each 500 requests. Off by default.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from tasks import batches, connections, message, store
from tasks.models import RequestState
from tasks.settings import settings

logger = logging.getLogger(__name__)

CHUNK: Final = 500
#: What is shown instead of a body.
REDACTED: Final = "('{id}',)"


def received(app: Any, batch_id: str) -> None:
    """Say which requests have been closed into a batch."""
    with _best_effort():
        _send(app, (("task-received", _description(request_id)) for request_id in _requests(batch_id)))


@contextlib.contextmanager
def delivery(app: Any, batch_id: str) -> Iterator[None]:
    """Say after the last step of delivery which of a batch's requests are settled, and after what time."""
    ids: list[str] = []
    with _best_effort():
        ids = _requests(batch_id)
    yield
    with _best_effort():
        _ended(app, ids)


@contextlib.contextmanager
def _best_effort() -> Iterator[None]:
    """What people see must not hold up what they wait for."""
    try:
        yield
    except Exception as error:
        logger.warning("task events were not sent: %s", type(error).__name__)


def _requests(batch_id: str) -> list[str]:
    return [request_id for request_id, _ in batches.lines(batch_id)] if settings().task_events else []


def _ended(app: Any, ids: Sequence[str]) -> None:
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
    if not settings().task_events:
        return
    with app.connection_for_write() as connection:
        dispatcher = app.events.Dispatcher(connection, buffer_group={"task"}, buffer_limit=CHUNK)
        with dispatcher:
            for kind, fields in events:
                dispatcher.send(kind, **fields)
            dispatcher.flush()
