"""In which situation a step is done: what Redis knows, at that moment, of the batch or request it is about.

After a kill nothing counts but what Redis and the upstream know. So the same step in the same situation is
the same case, in whatever scenario it comes; another situation makes it another one, which has a test of its own.
Ids, times and counts are left out, every other field of a record that is set is named: a field
that is added later makes new situations by itself.
"""

from __future__ import annotations

import re
import threading
from typing import Any, Final

from tasks import store

STATES: Final = frozenset("claimed uploading creating submitted ended delivering cleaning done".split())
#: Fields of a batch record that identify, count or date it, or that every batch of its state has.
ORDINARY: Final = STATES.union(
    "state group count bytes credential endpoint model organization project lease lease_until not_before".split(),
    "upstream_id upstream_status create_at uploads input_file output_file".split(),
    "progress_total progress_completed progress_failed".split(),
    "oldest change creates quota quota_admitted max_wait".split(),
)
#: Marks that mean something in these states only: the code of the others never looks at what they stand for.
#: A field that is not named here, such as a new one, is taken to matter in all.
MATTERS_IN: Final = {
    "tried": {"delivering"},
    "uploaded": {"uploading"},
    "uploaded before": {"uploading", "creating", "cleaning"},
    "created before": {"uploading"},
    "reads": {"delivering"},
    "error_file": {"delivering", "cleaning"},
    "errors": {"delivering"},
    "refusal": {"delivering"},
    "failures": STATES - {"done"},
    "cancel_at": {"submitted"},
    "file_deleted": {"creating", "delivering"},
    "unbatchable": {"delivering"},
    "quota_refused": {"delivering"},
}
UNSET: Final = frozenset({b"", b"0", b"[]"})

Subject = tuple[str, str]
_local = threading.local()  # of a greenlet, where the standard library is patched


def work_on(subject: Subject | None) -> None:
    """From now on this greenlet works on ("batch", id) or ("request", id)."""
    _local.subject = subject


def subject() -> Subject | None:
    """What this greenlet works on."""
    found: Subject | None = getattr(_local, "subject", None)
    return found


def situation(redis: Any, about: Subject | None) -> str:
    """What is known of a batch or request, in a few words; empty when there is none."""
    if about is None:
        return ""
    kind, id_ = about
    return _of_batch(redis, id_) if kind == "batch" else _of_request(redis, id_)


def _of_batch(redis: Any, batch_id: str) -> str:
    raw = redis.hgetall(f"{store.PREFIX}batch:{batch_id}")
    record = {name.decode(): value for name, value in raw.items() if value not in UNSET}
    state = record.get("state", b"gone").decode()
    marks = set(record) - ORDINARY
    if state == "delivering" and "refusal" not in record:
        marks.add(record["upstream_status"].decode())
        marks.discard("completed")
    if "input_file" in record:
        marks.add("uploaded")
    if int(record.get("uploads", 0)) > 1:
        marks.add("uploaded before")
    if "creating" in record:
        marks.add("created before")
    ids = [line[:32].decode() for line in redis.lrange(f"{store.PREFIX}lines:{batch_id}", 0, 9)]
    if any(_tried(redis, id_) for id_ in ids):
        marks.add("tried")
    return _told(state, {mark for mark in marks if state in MATTERS_IN.get(mark, STATES)})


def _of_request(redis: Any, request_id: str) -> str:
    state = redis.hget(f"{store.PREFIX}request:{request_id}", "state") or b"gone"
    return _told(state.decode(), {"tried"} if _tried(redis, request_id) else set())


def of_queue(redis: Any, group_id: str) -> str:
    """What waits in a group's queue."""
    messages = redis.lrange(f"batch.{group_id}", 0, 9)
    ids = [found[1] for message in messages if (found := re.search(r'"correlation_id": *"(\w+)"', message.decode()))]
    if not ids:
        return "nothing waiting"
    return "tried ones waiting" if any(_tried(redis, id_) for id_ in ids) else "fresh ones waiting"


def can_be_taken(redis: Any, batch_id: str, states: tuple[str, ...]) -> bool:
    """Whether a lease would be given now. One that is refused changes nothing: it is no step."""
    state, until, pause = redis.hmget(f"{store.PREFIX}batch:{batch_id}", "state", "lease_until", "not_before")
    seconds, micros = redis.time()
    now = seconds * 1000 + micros // 1000
    return (state or b"").decode() in states and float(until or 0) <= now and float(pause or 0) <= now


def _tried(redis: Any, request_id: str) -> bool:
    return any(redis.hmget(f"{store.PREFIX}request:{request_id}", "attempts", "missing"))


def _told(state: str, marks: set[str]) -> str:
    return f"{state} ({', '.join(sorted(marks))})" if marks else state
