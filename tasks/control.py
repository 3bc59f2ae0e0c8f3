"""What an operator may do to a running llm-proxy: pause and resume submitting, and cancel.

A queued request is answered at once. A batch is marked; polling then cancels it at the upstream, what it has
answered by then is delivered, and the rest is answered with an error instead of being queued again. A single
line of a batch cannot be taken back, and neither can a synchronous call that is under way.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from tasks import connections, message, settle, store
from tasks.models import BatchState, Reply, RequestState

PAUSED: Final = f"{store.PREFIX}paused"
STATUS: Final = 499
CHUNK: Final = 500


def pause() -> None:
    """Close no more groups; what is accepted is queued, what is submitted goes on."""
    connections.client().set(PAUSED, store.now_ms())


def resume() -> None:
    """Close groups again; the next tick does."""
    connections.client().delete(PAUSED)


def canceled_reply() -> Reply:
    """What a canceled request is answered: not the caller's fault, and not to be tried again by itself."""
    return settle.error_reply(
        STATUS, "The operator of the proxy canceled this request.", code="canceled", type_="request_canceled"
    )


def is_canceled(batch_id: str) -> bool:
    """Whether a batch bears the mark now."""
    return bool(connections.client().hget(f"{store.PREFIX}batch:{batch_id}", "canceled") == b"1")


def find(text: str) -> tuple[str, dict[str, str]]:
    """A request or a batch by its id, ours or the upstream's: ("request" or "batch" or "", its record)."""
    client = connections.client()
    ours = client.get(f"{store.PREFIX}upstream:{text}")
    name = ours.decode() if ours else text
    for kind in ("request", "batch"):
        record = client.hgetall(f"{store.PREFIX}{kind}:{name}")
        if record:
            return kind, {"id": name, **{key.decode(): value.decode(errors="replace") for key, value in record.items()}}
    return "", {}


def cancel_request(request_id: str) -> bool:
    """Answer a request that is still queued; False when it is elsewhere by now."""
    return settle.settle([(request_id, settle.QUEUE, canceled_reply())]) == 1


def cancel_batch(batch_id: str) -> bool:
    """Mark a batch; False when its results are being delivered already."""
    return bool(store.run("cancel", batch_id, *sorted(STOPPABLE)))


STOPPABLE: Final = frozenset(
    {BatchState.CLAIMED, BatchState.UPLOADING, BatchState.CREATING, BatchState.SUBMITTED, BatchState.ENDED}
)


def cancel_group(group_id: str) -> dict[str, int]:
    """Cancel what is queued and in flight of one group, first the queue: what leaves it meanwhile is in flight."""
    requests = end_queue(group_id, canceled_reply()) + _cancel_synchronous(group_id)
    batches = [batch for batch, group in _in_flight() if group == group_id]
    return {"requests": requests, "batches": sum(map(cancel_batch, batches))}


def cancel_all() -> dict[str, int]:
    """Cancel everything that is queued or in flight."""
    groups = [group.decode() for group in connections.client().zrange(f"{store.PREFIX}groups", 0, -1)]
    requests = sum(end_queue(group, canceled_reply()) for group in groups) + _cancel_synchronous()
    return {"requests": requests, "batches": sum(cancel_batch(batch) for batch, _ in _in_flight())}


def end_queue(group_id: str, reply: Reply) -> int:
    """Answer everything that is queued of a group; returns how much that was."""
    client, queue = connections.client(), message.group_queue(group_id)
    texts = client.lrange(queue, 0, -1)
    ended = _end([request_id for request_id in map(_id_of, texts) if request_id], reply)
    for part in _chunks(texts):  # nothing needs these messages any more, but they would be counted
        pipeline = client.pipeline(transaction=False)
        for text in part:
            pipeline.lrem(queue, 1, text)
        pipeline.execute()
    return ended


def _cancel_synchronous(group_id: str = "") -> int:
    """Requests of the synchronous lane, of one group or all, that nobody sends yet."""
    client = connections.client()
    ids = [request_id.decode() for request_id in client.zrange(f"{store.PREFIX}standing", 0, -1)]
    queued: list[str] = []
    for part in _chunks(ids):
        pipeline = client.pipeline(transaction=False)
        for request_id in part:
            pipeline.hmget(f"{store.PREFIX}request:{request_id}", "state", "group")
        queued += [
            request_id
            for request_id, (state, group) in zip(part, pipeline.execute(), strict=True)
            if state == RequestState.QUEUED.encode() and group_id in ("", (group or b"").decode())
        ]
    return _end(queued, canceled_reply())


def _end(ids: list[str], reply: Reply) -> int:
    return settle.settle((request_id, settle.QUEUE, reply) for request_id in ids)


def _in_flight() -> list[tuple[str, str]]:
    client = connections.client()
    ids = [batch.decode() for batch in client.zrange(f"{store.PREFIX}batches", 0, -1)]
    pipeline = client.pipeline(transaction=False)
    for batch in ids:
        pipeline.hget(f"{store.PREFIX}batch:{batch}", "group")
    return [(batch, (group or b"").decode()) for batch, group in zip(ids, pipeline.execute(), strict=True)]


def _chunks(ids: list[Any]) -> Iterator[list[Any]]:
    return (ids[start : start + CHUNK] for start in range(0, len(ids), CHUNK))


def _id_of(text: Any) -> str:
    found = message.ID_PATTERN.search(text.decode(errors="replace"))
    return found[0] if found else ""
