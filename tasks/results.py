"""Wakes the waiting clients of one process when their replies are settled.

The stream `settled` names every reply's id and size; one reader greenlet per process follows it
and fetches, a few at a time and of each caller in turn, the replies that somebody here waits for. Celery's
`AsyncResult.get()` needs a subscription per waiting client: measured, it dies at 1,200 of them,
and Redis drops a subscriber that is 32 MB behind. A stream cannot be missed: after a broken
connection the reader looks for everything it waits for.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict, defaultdict, deque

import gevent
import redis
from gevent.event import Event

from tasks import connections, settle, store
from tasks.models import Reply

logger = logging.getLogger(__name__)

BLOCK_MS = 2000  # below the socket's timeout
#: In case an entry is ever missed: the reader looks for everything that it waits for.
LOOK_SECONDS = 60.0
READ_ENTRIES = 200
RECONNECT_SECONDS = 0.5
#: Clients that are woken before others in this process have a turn: a reply takes a millisecond to write, and whoever
#: comes new would wait behind thousands at each of its steps.
WAKE_AT_ONCE = 32
STREAM = f"{store.PREFIX}settled"


class Waiter:
    """One client that waits for one reply; it may be woken once, with the reply or an error.

    Attributes:
        caller: whose it is: nobody's replies are handed out before all of another's.
        tick: place of its alarm, see web/alarms.py.
    """

    __slots__ = ("_awake", "_payload", "caller", "request_id", "tick")

    def __init__(self, request_id: str, caller: str = "") -> None:
        self.request_id = request_id
        self.caller = caller
        self.tick = -1
        self._payload: bytes | Exception | None = None
        self._awake = Event()

    def wake(self, payload: bytes | Exception) -> None:
        """Hand over the stored result, or an error to be raised in the waiting greenlet; the first one counts."""
        if self._payload is None:
            self._payload = payload
            self._awake.set()

    def nudge(self) -> None:
        """Let the waiting greenlet look around, and wait on."""
        self._awake.set()

    def wait(self, timeout_seconds: float | None = None) -> Reply | None:
        """Block until woken; None when only nudged, or when nothing came in time."""
        self._awake.wait(timeout_seconds)
        self._awake.clear()
        if isinstance(self._payload, Exception):
            raise self._payload
        return None if self._payload is None else settle.decode(self._payload, self.request_id)


class Results:
    """The replies that clients of this process wait for."""

    def __init__(self) -> None:
        self._waiters: defaultdict[str, list[Waiter]] = defaultdict(list)
        self._last_id = "$"
        # What is settled and has not been fetched yet: ids and sizes by caller.
        self._ready: OrderedDict[str, deque[tuple[str, int]]] = OrderedDict()

    def start(self) -> None:
        """Start the reader greenlet."""
        gevent.spawn(self._read_forever)

    def register(self, request_id: str, caller: str = "") -> Waiter:
        """Begin to wait; to be called before the request can be settled, or followed by `look`."""
        waiter = Waiter(request_id, caller)
        self._waiters[request_id].append(waiter)
        return waiter

    def forget(self, waiter: Waiter) -> None:
        """Stop waiting, answered or not."""
        waiters = self._waiters.get(waiter.request_id)
        if waiters and waiter in waiters:
            waiters.remove(waiter)
            if not waiters:
                del self._waiters[waiter.request_id]

    def look(self, request_id: str) -> None:
        """Wake those who registered for a reply that may have been there already."""
        self._fetch([request_id])

    def waits(self, request_id: str) -> bool:
        """Whether a client here waits for this request."""
        return request_id in self._waiters

    def waiting(self) -> list[str]:
        """The requests that clients here wait for."""
        return list(self._waiters)

    def fail(self, request_id: str, error: Exception) -> None:
        """Raise an error in every client that waits for this request."""
        self._wake(request_id, error)

    def _read_forever(self) -> None:
        while True:
            try:
                self._ready.clear()  # all of it is looked for
                self._last_id = self._newest_id()
                self._look_for_all()
                looked_at = time.monotonic()
                while True:
                    self._read()
                    if time.monotonic() - looked_at > LOOK_SECONDS:
                        self._look_for_all()
                        looked_at = time.monotonic()
            except redis.RedisError as error:
                logger.warning("results cannot be read (%s), trying again", type(error).__name__)
                gevent.sleep(RECONNECT_SECONDS)
            except Exception:
                # The reader must outlive a defect: everybody here waits for it.
                logger.exception("the reader of results failed, going on")
                gevent.sleep(RECONNECT_SECONDS)

    @staticmethod
    def _newest_id() -> str:
        newest = connections.client().xrevrange(STREAM, count=1)
        return newest[0][0].decode() if newest else "0-0"

    def _read(self) -> None:
        """Hand some replies out, and look for more before the next ones."""
        self._read_entries(None if self._ready else BLOCK_MS)
        if ids := self._next():
            self._fetch(ids)
            gevent.sleep(0)

    def _next(self) -> list[str]:
        """The ids that are fetched next, of each caller in turn."""
        ids: list[str] = []
        size = 0
        while self._ready and len(ids) < WAKE_AT_ONCE:
            caller, queue = next(iter(self._ready.items()))
            request_id, length = queue[0]
            if ids and size + length > store.READ_BYTES:
                break
            queue.popleft()
            self._ready.move_to_end(caller)
            if not queue:
                del self._ready[caller]
            if request_id in self._waiters:
                ids.append(request_id)
                size += length
        return ids

    def _read_entries(self, block_ms: int | None) -> None:
        answer = connections.client().xread({STREAM: self._last_id}, count=READ_ENTRIES, block=block_ms)
        if not answer:
            return
        entries = (answer[STREAM.encode()][0] if isinstance(answer, dict) else answer[0][1]) or []
        if self._was_trimmed():
            self._look_for_all()
        for entry_id, values in entries:
            self._last_id = entry_id.decode()
            for part in values.get(b"ids", b"").decode().split():
                request_id, _, size = part.partition(":")
                if waiters := self._waiters.get(request_id):
                    self._ready.setdefault(waiters[0].caller, deque()).append((request_id, int(size)))

    def _was_trimmed(self) -> bool:
        """Whether entries that we have not read may have been dropped."""
        oldest = connections.client().xrange(STREAM, count=1)
        return bool(oldest) and _order(oldest[0][0].decode()) > _order(self._last_id)

    def _look_for_all(self) -> None:
        client = connections.client()
        ids = list(self._waiters)
        for start in range(0, len(ids), 1000):
            part = ids[start : start + 1000]
            pipeline = client.pipeline(transaction=False)
            for request_id in part:
                pipeline.strlen(store.RESULT_PREFIX + request_id)
            found = [(i, size) for i, size in zip(part, pipeline.execute(), strict=True) if size]
            for chunk in store.by_size(found):
                self._fetch(chunk)

    def _fetch(self, ids: list[str]) -> None:
        payloads = connections.client().mget([store.RESULT_PREFIX + request_id for request_id in ids])
        woken = 0
        for request_id, payload in zip(ids, payloads, strict=True):
            if payload is not None:
                self._wake(request_id, payload)
                woken += 1
                if woken % WAKE_AT_ONCE == 0:
                    gevent.sleep(0)

    def _wake(self, request_id: str, payload: bytes | Exception) -> None:
        waiters = self._waiters.pop(request_id, [])
        for waiter in waiters:
            waiter.wake(payload)


def _order(stream_id: str) -> tuple[int, int]:
    ms, _, sequence = stream_id.partition("-")
    return int(ms), int(sequence)
