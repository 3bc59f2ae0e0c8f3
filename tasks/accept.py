"""The door in: many requests become durable Celery tasks with one script call.

A publisher greenlet gathers what arrives within two milliseconds. A call per request was
measured to collapse at 2,000 simultaneous requests; this takes 20,000 in a few seconds.
"""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import dataclass, field

import gevent
import redis
from gevent.event import AsyncResult, Event

from tasks import allowances, message, sealing, store, vault
from tasks.errors import IdempotencyConflict, LlmProxyError, StoreUnavailable
from tasks.models import Lane, Request, new_id
from tasks.presence import Presence
from tasks.pressure import Pressure
from tasks.settings import Settings

logger = logging.getLogger(__name__)

GATHER_SECONDS = 0.002
CHUNK_REQUESTS = 500
CHUNK_BYTES = 4_000_000
WITHDRAW_SECONDS = 0.5
#: A group and its credential outlive every request that refers to them, its reply and its files, by this.
LIFETIME_MARGIN_SECONDS = 86_400

Row = tuple[str | bytes | float, ...]


@dataclass(frozen=True, slots=True)
class _Entry:
    """One caller's request on its way into the script; made by the caller, so its errors are its own."""

    request_id: str
    group_id: str
    digest: str
    head: Row = field(repr=False)  # what the group's first request in a gather says of it
    row: Row = field(repr=False)
    size: int
    accepted: AsyncResult[str]


class Acceptor:
    """Accepts requests for one process; `start` once, then `accept` from any greenlet."""

    def __init__(self, config: Settings, presence: Presence | None = None) -> None:
        self._config = config
        self._presence = presence or Presence()
        self._pending: deque[_Entry] = deque()
        self._taken: list[_Entry] = []  # in the script just now
        self._arrived = Event()
        self._doubtful: list[tuple[str, str]] = []  # request id, digest
        self._pressure = Pressure(config)

    def start(self) -> None:
        """Start the publisher greenlet."""
        self._pressure.start(self._refuse_all)
        gevent.spawn(self._publish_forever)

    def accept(self, request: Request, credential: str) -> str:
        """Make a request durable and return its task id, or the id of the one that it repeats.

        "": nothing was accepted, its predecessor may be an orphan soon; ask again.

        Raises:
            StoreUnavailable: it was not accepted.
            TooManyWaiting: neither may it wait.
            LimitReached: its access token does not allow it.
            IdempotencyConflict: its Idempotency-Key belongs to another body.
        """
        self._pressure.check()
        entry = _entry(request, credential)
        self._pending.append(entry)
        self._arrived.set()
        original: str = entry.accepted.get()  # type: ignore[assignment]  # get() waits for a value
        if original == "conflict":
            raise IdempotencyConflict(
                "This Idempotency-Key was used with another request; use a new key for a new body.",
                param="Idempotency-Key",
            )
        if original.startswith("!"):
            raise allowances.refusal(original, request.allowance)
        return "" if original == "later" else original or request.id

    def _publish_forever(self) -> None:
        while True:
            self._arrived.wait(WITHDRAW_SECONDS if self._doubtful else None)
            gevent.sleep(GATHER_SECONDS)
            self._arrived.clear()
            self._withdraw()
            while self._pending:
                self._publish(self._take())

    def _refuse_all(self) -> None:
        """Redis does not answer: let nobody wait for it. What it takes all the same is taken back."""
        self._doubtful += [(entry.request_id, entry.digest) for entry in self._taken if not entry.accepted.ready()]
        for entry in [*self._taken, *self._pending]:
            if not entry.accepted.ready():
                entry.accepted.set_exception(StoreUnavailable(store.ABSENT, retry_after_seconds=20))
        self._pending.clear()

    def _take(self) -> list[_Entry]:
        chunk: list[_Entry] = []
        size = 0
        while self._pending and len(chunk) < CHUNK_REQUESTS and size < CHUNK_BYTES:
            chunk.append(self._pending.popleft())
            size += chunk[-1].size
        return chunk

    def _publish(self, chunk: list[_Entry]) -> None:
        self._taken = chunk
        try:
            replies = self._run(chunk)
        except Exception as error:
            # Every waiting greenlet gets it, and the publisher goes on: a defect must not silence the front.
            failure = store.unavailable(error) if isinstance(error, redis.RedisError) else error
            if not isinstance(failure, LlmProxyError):
                logger.exception("a gather of %d requests failed", len(chunk))
            for entry in chunk:
                if not entry.accepted.ready():
                    entry.accepted.set_exception(failure)
            return
        finally:
            self._taken = []
        for entry, reply in zip(chunk, replies, strict=True):
            if not entry.accepted.ready():
                entry.accepted.set(reply.decode())

    def _run(self, chunk: list[_Entry]) -> list[bytes]:
        self._pressure.check()
        self._presence.ensure()
        heads = {entry.group_id: entry.head for entry in chunk}
        config = self._config
        try:
            replies: list[bytes] = store.run(
                "accept",
                config.max_batch_requests,
                config.max_batch_mb * 1_000_000,
                store.EMBEDDING_INPUTS,
                message.collect_message(new_id()),
                lifetime_seconds(config),
                int((config.max_hold_seconds + store.PATIENCE_SECONDS) * 1000),
                config.unbatchable,
                self._presence.number,
                store.DELIVERED_SECONDS,
                config.max_waiting,
                config.sync_concurrency,
                len(heads),
                *(value for head in heads.values() for value in head),
                *(value for entry in chunk for value in entry.row),
            )
        except StoreUnavailable:
            # Whether Redis took them is not known; their callers hear that it did not, and so it shall be.
            self._doubtful += [(entry.request_id, entry.digest) for entry in chunk]
            raise
        return replies

    def _withdraw(self) -> None:
        """Take back what may have been accepted although its callers were told that it was not.

        What a worker was quicker to take is an orphan, for the caller to find who comes again.
        """
        if not self._doubtful:
            return
        rows = [part for request_id, digest in self._doubtful for part in (request_id, digest, "gone")]
        try:
            withdrawn = store.run("withdraw", "requests_total", *rows[::3])
            store.run("depart", self._presence.number, store.DELIVERED_SECONDS, self._config.result_ttl_seconds, *rows)
        except StoreUnavailable:
            return
        logger.warning("%d of %d doubtful requests had been accepted", withdrawn, len(self._doubtful))
        self._doubtful.clear()


def lifetime_seconds(config: Settings) -> int:
    """How long a group and its credential are kept after the latest request."""
    return int(config.request_deadline_seconds) + config.result_ttl_seconds + LIFETIME_MARGIN_SECONDS


def _entry(request: Request, credential: str) -> _Entry:
    group, allowance = request.group, request.allowance
    group_id = group.id
    queue = message.group_queue(group_id) if request.lane is Lane.BATCH else message.SYNC_QUEUE
    return _Entry(
        request.id,
        group_id,
        request.digest,
        (
            group_id, group.credential, vault.seal(credential), group.endpoint, group.model,
            group.organization, group.project, group.max_wait_seconds, group.provider, group.extra,
            allowance.label, allowance.requests_per_minute, allowance.waiting, allowance.micro_dollars_per_day,
        ),
        (
            request.id, group_id, request.lane, message.request_message(request.id, queue),
            sealing.body(request.id, request.body),
            request.line_bytes, request.inputs, request.digest, request.fingerprint,
            "key" if request.idempotency_key else request.attempt, request.tries,
        ),
        request.line_bytes,
        AsyncResult(),
    )  # fmt: skip
