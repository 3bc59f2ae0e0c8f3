"""The door out: final replies are written here, by both lanes and once each.

A reply is stored under Celery's own key in Celery's own format, so that
`AsyncResult(id).get()` gives `{status, headers, body}` in any Celery shell. Celery's
own store is a GET and a SET; the script's compare-and-set lets exactly one reply win.
"""

from __future__ import annotations

import base64
import functools
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from tasks import message, sealing, store, usage
from tasks.models import Outcome, Reply
from tasks.settings import settings

CHUNK_BYTES: Final = 1_000_000
CHUNK_LINES: Final = 200
#: Of settle.lua for each request.
ARGUMENTS: Final = 6
#: In an owner's place: to settle what nobody owns, because it is queued.
QUEUE: Final = "queue"


class _Result(msgspec.Struct, omit_defaults=True):
    status: int
    headers: dict[str, str]
    body: str
    encoding: str = ""  # "base64" when the upstream's body is not UTF-8, "sealed" when nobody shall read it here


class _Meta(msgspec.Struct):
    """Celery's result format."""

    result: _Result
    task_id: str = ""
    date_done: str = ""
    status: str = "SUCCESS"
    traceback: None = None
    children: list[Any] = []


def encode(request_id: str, reply: Reply) -> bytes:
    """A reply in Celery's result format; the body as a string, so that no reader re-reads its numbers."""
    if settings().seal_bodies:
        sealed = base64.b64encode(sealing.seal(request_id, reply.body)).decode()
        result = _Result(reply.status, reply.headers, sealed, "sealed")
        return msgspec.json.encode(_Meta(result, request_id, datetime.now(UTC).isoformat()))
    try:
        result = _Result(reply.status, reply.headers, reply.body.decode())
    except UnicodeDecodeError:
        result = _Result(reply.status, reply.headers, base64.b64encode(reply.body).decode(), "base64")
    return msgspec.json.encode(_Meta(result, request_id, datetime.now(UTC).isoformat()))


_decoder = msgspec.json.Decoder(_Meta)


def decode(payload: bytes, request_id: str) -> Reply:
    """The reply in a request's stored result.

    Raises:
        VaultError: it is sealed, and not for this request or with no configured key.
    """
    result = _decoder.decode(payload).result
    body = base64.b64decode(result.body) if result.encoding else result.body.encode()
    if result.encoding == "sealed":
        body = sealing.open_sealed(request_id, body)
    return Reply.of_upstream(result.status, result.headers, body)


def settle(replies: Iterable[tuple[str, str, Reply]]) -> int:
    """Write final replies of (request id, owner, reply), in chunks; returns how many were settled now.

    Raises:
        StoreUnavailable: some may be settled; settling all again is safe.
    """
    settled = 0
    arguments: list[str | bytes] = []
    size = 0
    for request_id, owner, reply in replies:
        payload = encode(request_id, reply)
        arguments += (request_id, owner, payload, *_figures(reply))
        size += len(payload)
        if size >= CHUNK_BYTES or len(arguments) >= ARGUMENTS * CHUNK_LINES:
            settled += _settle(arguments)
            arguments, size = [], 0
    return settled + (_settle(arguments) if arguments else 0)


def _figures(reply: Reply) -> tuple[str, str, str]:
    """Kind, reason and tokens (with who answered, where the group does not say so), for the script's sums."""
    tokens, tier = usage.read(reply)
    kind = _kind(reply.outcome, reply.status, reply.headers.get("x-batch-lane", ""), tier)
    counts = ""
    if tokens:
        counts = f"{tokens.input} {tokens.cached} {tokens.output} {tokens.reasoning} {tokens.model}"
    return kind, usage.reason(reply), counts


@functools.lru_cache(maxsize=1000)
def _kind(outcome: Outcome, status: int, lane: str, tier: str) -> str:
    return f"{outcome},{status},{lane},{tier}"


def _settle(arguments: Sequence[str | bytes]) -> int:
    config = settings()
    return sum(store.run("settle", store.RESULT_PREFIX, config.result_ttl_seconds, config.upstream_host, *arguments))


def requeue(
    request_ids: Sequence[str], owner: str, queue: str, *, counter: str = "", lane: str = "", delay_seconds: float = 0.0
) -> int:
    """Queue requests again; returns how many still belonged to `owner`.

    `counter` ("attempts", "missing" or "late") is raised for each; with `lane` they leave their own for it,
    and `queue` is that lane's; the group stays open for `delay_seconds`.
    """
    requeued = 0
    if queue != message.SYNC_QUEUE:
        request_ids = request_ids[::-1]  # each goes before the others: the first one is put last
    for start in range(0, len(request_ids), CHUNK_LINES):
        rows: list[str] = []
        for request_id in request_ids[start : start + CHUNK_LINES]:
            rows += (request_id, message.request_message(request_id, queue))
        requeued += sum(_requeue(owner, counter, lane, delay_seconds, rows))
    return requeued


def release(request_id: str, owner: str, delay_seconds: float, *, counter: str = "attempts") -> None:
    """Give a request of the synchronous lane back; the caller publishes its message with a countdown."""
    _requeue(owner, counter, "", delay_seconds, [request_id, ""])


def _requeue(owner: str, counter: str, lane: str, delay_seconds: float, rows: list[str]) -> list[int]:
    patience = int((settings().max_hold_seconds + store.PATIENCE_SECONDS) * 1000)
    done: list[int] = store.run("requeue", owner, counter, lane, int(delay_seconds * 1000), patience, *rows)
    return done


def error_reply(
    status: int,
    message_: str,
    *,
    code: str | None,
    type_: str = "upstream_error",
    outcome: Outcome = Outcome.SYNTHESIZED,
) -> Reply:
    """An error of our own in the OpenAI envelope; SDKs must not retry it, the pipeline did what can be done."""
    body = {"error": {"message": message_, "type": type_, "param": None, "code": code}}
    headers = {"content-type": "application/json", "x-should-retry": "false"}
    return Reply(status=status, headers=headers, body=msgspec.json.encode(body), outcome=outcome)
