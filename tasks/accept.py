"""The door in: many requests become durable Celery tasks with one script call.

A publisher greenlet gathers what arrives within two milliseconds. A call per request was
measured to collapse at 2,000 simultaneous requests; this takes 20,000 in a few seconds.
"""

from __future__ import annotations

import logging
from collections import deque
from hashlib import blake2b

import gevent
import redis
from gevent.event import AsyncResult, Event

from tasks import message, store, vault
from tasks.errors import IdempotencyConflict, LlmProxyError, StoreUnavailable
from tasks.models import Lane, Request, new_id
from tasks.pressure import Pressure
from tasks.settings import Settings

logger = logging.getLogger(__name__)

GATHER_SECONDS = 0.002
CHUNK_REQUESTS = 500
CHUNK_BYTES = 4_000_000
#: A group and its credential outlive every request that refers to them.
LIFETIME_DEADLINES = 3


class Acceptor:
    """Accepts requests for one process; `start` once, then `accept` from any greenlet."""

    def __init__(self, config: Settings) -> None:
        self._config = config
        self._pending: deque[tuple[Request, str, AsyncResult[str]]] = deque()
        self._arrived = Event()
        self._doubtful: list[str] = []
        self._pressure = Pressure()

    def start(self) -> None:
        """Start the publisher greenlet."""
        gevent.spawn(self._publish_forever)

    def accept(self, request: Request, credential: str) -> str:
        """Make a request durable and return its task id, or the id of the one that it repeats.

        Raises:
            StoreUnavailable: it was not accepted.
            IdempotencyConflict: its Idempotency-Key belongs to another body.
        """
        slot: AsyncResult[str] = AsyncResult()
        self._pending.append((request, credential, slot))
        self._arrived.set()
        original = slot.get()
        if original == "conflict":
            raise IdempotencyConflict(
                "This Idempotency-Key was used with another request; use a new key for a new body.",
                param="Idempotency-Key",
            )
        return original or request.id

    def _publish_forever(self) -> None:
        while True:
            self._arrived.wait()
            gevent.sleep(GATHER_SECONDS)
            self._arrived.clear()
            while self._pending:
                self._publish(self._take())

    def _take(self) -> list[tuple[Request, str, AsyncResult[str]]]:
        chunk: list[tuple[Request, str, AsyncResult[str]]] = []
        size = 0
        while self._pending and len(chunk) < CHUNK_REQUESTS and size < CHUNK_BYTES:
            chunk.append(self._pending.popleft())
            size += chunk[-1][0].line_bytes
        return chunk

    def _publish(self, chunk: list[tuple[Request, str, AsyncResult[str]]]) -> None:
        try:
            replies = self._run([(request, credential) for request, credential, _ in chunk])
        except Exception as error:
            # Every waiting greenlet gets it, and the publisher goes on: a defect must not silence the front.
            failure = store.unavailable(error) if isinstance(error, redis.RedisError) else error
            if not isinstance(failure, LlmProxyError):
                logger.exception("a gather of %d requests failed", len(chunk))
            for _, _, slot in chunk:
                slot.set_exception(failure)
            return
        for (_, _, slot), reply in zip(chunk, replies, strict=True):
            slot.set(reply.decode())

    def _run(self, chunk: list[tuple[Request, str]]) -> list[bytes]:
        self._pressure.check()
        if self._doubtful:
            withdrawn = store.run("withdraw", *self._doubtful)
            logger.warning("%d of %d doubtful requests had been accepted", withdrawn, len(self._doubtful))
            self._doubtful.clear()
        try:
            replies: list[bytes] = store.run("accept", *self._arguments(chunk))
        except StoreUnavailable:
            # Whether Redis took them is not known; their callers hear that it did not, and so it shall be.
            self._doubtful += [request.id for request, _ in chunk]
            raise
        return replies

    def _arguments(self, chunk: list[tuple[Request, str]]) -> list[str | bytes | int]:
        config = self._config
        groups: dict[str, tuple[Request, str]] = {}
        rows: list[str | bytes | int] = []
        for request, credential in chunk:
            group_id = request.group.id
            groups.setdefault(group_id, (request, credential))
            queue = message.SYNC_QUEUE if request.lane is Lane.SYNC else message.group_queue(group_id)
            rows += (
                request.id, group_id, request.lane, message.request_message(request.id, queue), request.body,
                request.line_bytes, request.inputs, idempotency_digest(request), request.fingerprint,
            )  # fmt: skip
        heads: list[str | bytes | int] = []
        for group_id, (request, credential) in groups.items():
            g = request.group
            heads += (
                group_id, g.credential, vault.seal(credential), g.endpoint, g.model, g.organization, g.project,
            )  # fmt: skip
        return [
            config.max_batch_requests,
            config.max_batch_mb * 1_000_000,
            store.EMBEDDING_INPUTS,
            message.collect_message(new_id()),
            int(config.request_deadline_seconds * LIFETIME_DEADLINES),
            int((config.max_hold_seconds + store.PATIENCE_SECONDS) * 1000),
            len(groups),
            *heads,
            *rows,
        ]


def idempotency_digest(request: Request) -> str:
    """Scoped to the credential: nobody attaches to another caller's request."""
    if not request.idempotency_key:
        return ""
    text = f"{request.group.credential}\0{request.idempotency_key}"
    return blake2b(text.encode(), digest_size=16).hexdigest()
