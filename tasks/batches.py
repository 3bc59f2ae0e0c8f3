"""Batch records: what is in them, how a group is closed into one, and which of them stand still."""

from __future__ import annotations

import base64
import logging
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

import msgspec

from tasks import connections, store
from tasks.errors import CredentialGone
from tasks.models import BatchState, Group, Outcome, Reply, new_id
from tasks.providers.catalogue import providers
from tasks.settings import settings

logger = logging.getLogger(__name__)

#: A released batch whose next step has not begun this long after its pause is taken up by the sweep.
SLACK_SECONDS: Final = 15.0
#: The upstream's clock and Redis' may differ by this much.
CLOCK_SKEW_SECONDS: Final = 3600.0
#: The rest comes with the next sweep.
OVERDUE_AT_ONCE: Final = 500
#: A credential's batches are counted over this time; `MAX_BATCHES_PER_HOUR` is what it may have of them.
CREATION_PERIOD_SECONDS: Final = 3600.0
#: Batches of one credential and model that may be under validation at once, until the upstream has admitted more:
#: if its queue is nearly full, only so many are refused.
PROBES: Final = 5
#: The last part of a request's time is for cancelling its batch: at most this, and at most a tenth of it.
CANCEL_SECONDS: Final = 900.0
NUMBER_FIELDS: Final = (
    "submitted",
    "oldest",
    "uploads",
    "reads",
    "failures",
    "create_at",
    "file_deleted",
    "unbatchable",
    "cancel_at",
    "canceled",
    "progress_completed",
    "progress_failed",
)
#: Upstream batch fields that hold text for people.
TEXT_FIELDS: Final = ("upstream_id", "upstream_status", "input_file", "output_file", "error_file", "errors", "refusal")


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """A batch record as it was read.

    Attributes:
        claimed, submitted: Redis' time in ms at which it came into that state, 0 before.
        oldest: Redis' time in ms at which the first of its requests was accepted.
        uploads: uploads that were begun.
        reads: passes over the result files that left doubts whether they were whole.
        failures: consecutive tries of the present step that came to nothing.
        create_at: Redis' time in ms at which the latest "create" was about to be sent, 0 before.
        file_deleted: 1 when its input file was deleted while a "create" was in doubt: it may fail for want of it.
        unbatchable: 1 when it was refused because the upstream does not batch this model or endpoint; 2 when that
            was remembered, and the upstream has not been asked.
        cancel_at: Redis' time in ms at which the upstream was first asked to cancel it, 0 before.
        canceled: 1 when the operator has canceled it: what it has not answered is answered with an error.
        progress_completed, progress_failed: the upstream's latest `request_counts`.
        refusal: the answer that settles every line, as JSON, when the upstream refused the whole batch.
        errors: the upstream's `errors.data` as JSON.
    """

    id: str
    state: BatchState
    group: Group
    count: int
    claimed: int
    submitted: int = 0
    oldest: int = 0
    uploads: int = 0
    reads: int = 0
    failures: int = 0
    create_at: int = 0
    file_deleted: int = 0
    unbatchable: int = 0
    cancel_at: int = 0
    canceled: int = 0
    progress_completed: int = 0
    progress_failed: int = 0
    upstream_id: str = ""
    upstream_status: str = ""
    input_file: str = ""
    output_file: str = ""
    error_file: str = ""
    errors: str = ""
    refusal: str = ""

    @property
    def since_seconds(self) -> float:
        """Unix time before which the upstream cannot have anything of this batch, whatever its clock says."""
        return self.claimed / 1000 - CLOCK_SKEW_SECONDS

    def is_late(self, now_ms: int) -> bool:
        """Whether it has used up its group's longest wait."""
        wait_ms = self.group.max_wait_seconds * 1000
        return bool(wait_ms) and now_ms >= self.oldest + wait_ms

    def must_stop(self, now_ms: int) -> bool:
        """Whether it must be cancelled now: somebody said so, it is late, or its deadline is near."""
        return bool(self.canceled) or now_ms >= self.oldest + stop_ms(self.group.max_wait_seconds)

    def is_over(self, now_ms: int) -> bool:
        """Whether the deadline of its oldest request has passed."""
        return now_ms >= self.oldest + deadline_ms()

    def seconds_left(self, now_ms: int) -> float:
        """Until it must be stopped, or if that has come, until its deadline; 0 after that."""
        stop, over = self.oldest + stop_ms(self.group.max_wait_seconds), self.oldest + deadline_ms()
        return max(0.0, ((stop if now_ms < stop else over) - now_ms) / 1000)


def deadline_ms() -> int:
    """The age at which every request is answered."""
    return int(settings().request_deadline_seconds * 1000)


def cancelling_ms() -> int:
    """The part of that age which is left for cancelling."""
    return int(min(CANCEL_SECONDS, settings().request_deadline_seconds / 10) * 1000)


def stop_ms(max_wait_seconds: float) -> int:
    """The age of its oldest request at which a batch is cancelled."""
    stop = deadline_ms() - cancelling_ms()
    return min(stop, int(max_wait_seconds * 1000)) if max_wait_seconds else stop


GROUP_GONE: Final = -2
FIELDS: Final = frozenset(f.name for f in fields(Batch))


def from_record(batch_id: str, flat: Sequence[bytes]) -> Batch:
    """A batch from its hash as Redis returns it to a script."""
    record = {k.decode(): v.decode() for k, v in zip(flat[::2], flat[1::2], strict=True)}
    group = Group(
        **{name: record[name] for name in ("credential", "endpoint", "model", "organization", "project")},
        max_wait_seconds=float(record.get("max_wait", 0)),
        provider=record.get("provider", "openai"),
        extra=record.get("extra", ""),
    )
    rest: dict[str, Any] = {name: int(record.get(name, 0)) for name in NUMBER_FIELDS}
    rest |= {name: record.get(name, "") for name in TEXT_FIELDS}
    return Batch(
        id=batch_id,
        state=BatchState(record["state"]),
        group=group,
        count=int(record["count"]),
        claimed=int(record["claimed"]),
        **rest,
    )


def claim(group_id: str) -> str | None:
    """Close one batch of a group if it is full or old enough; returns the new batch's id.

    Raises:
        CredentialGone: the group has outlived its record and its credential, which go together.
    """
    config = settings()
    batch_id = new_id()
    count = store.run(
        "claim",
        group_id,
        batch_id,
        config.max_batch_requests,
        config.max_batch_mb * 1_000_000,
        store.EMBEDDING_INPUTS,
        int(config.max_hold_seconds * 1000),
        int(SLACK_SECONDS * 1000),
        deadline_ms() - cancelling_ms(),
        config.max_batches_per_hour,
        int(CREATION_PERIOD_SECONDS * 1000),
        PROBES,
        _limits(),
    )
    if count == GROUP_GONE:
        raise CredentialGone(f"group {group_id} is not in the store any more")
    if count < 0:
        store.say_newer("group", group_id)
    return batch_id if count > 0 else None


def _limits() -> str:
    """Of providers that take less in a batch than the settings say, as JSON: name -> [requests, bytes]."""
    config = settings()
    lower = {
        provider.name: [provider.max_requests, provider.max_mb * 1_000_000]
        for provider in providers().values()
        if provider.max_requests < config.max_batch_requests or provider.max_mb < config.max_batch_mb
    }
    return msgspec.json.encode(lower).decode()


def open_groups() -> list[str]:
    """Groups that have queued requests, the oldest first."""
    return [group.decode() for group in connections.client().zrange(f"{store.PREFIX}groups", 0, -1)]


def overdue() -> list[tuple[str, BatchState]]:
    """Batches that nobody works on although it is their time, with their state."""
    flat = store.run("overdue", int(store.PATIENCE_SECONDS * 1000), OVERDUE_AT_ONCE)
    found = []
    for batch_id, state in zip(flat[::2], flat[1::2], strict=True):
        try:
            found.append((batch_id.decode(), BatchState(state.decode())))
        except ValueError:
            logger.error("%s is in a state that this version does not know", batch_id.decode())
    return found


def lines(batch_id: str) -> list[tuple[str, int]]:
    """Request id and size in bytes of each line, in the order of the input file."""
    raw = connections.client().lrange(f"{store.PREFIX}lines:{batch_id}", 0, -1)
    return [(line[:32].decode(), int(line[33:])) for line in raw]


def is_known(upstream_id: str) -> bool:
    """Whether the upstream's batch is one that has been submitted."""
    return bool(connections.client().exists(f"{store.PREFIX}upstream:{upstream_id}"))


def drop_lines(batch_id: str, request_ids: Sequence[str]) -> None:
    """Forget lines that were not written, so that the upstream's line numbers count ours."""
    sizes = dict(lines(batch_id)) if request_ids else {}
    for request_id in request_ids:
        connections.client().lrem(f"{store.PREFIX}lines:{batch_id}", 1, f"{request_id}:{sizes[request_id]}")


def encode_refusal(reply: Reply) -> str:
    """A reply as text, for a record."""
    return msgspec.json.encode(
        [reply.status, reply.headers, base64.b64encode(reply.body).decode(), reply.outcome]
    ).decode()


def decode_refusal(text: str) -> Reply:
    """The reply in a record."""
    status, headers, body, outcome, *_ = msgspec.json.decode(text)
    return Reply(status=status, headers=headers, body=base64.b64decode(body), outcome=Outcome(outcome))
