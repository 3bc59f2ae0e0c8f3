"""What travels through the pipeline: small frozen values and the states they can be in. No I/O."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import blake2b
from typing import Final
from uuid import uuid4

#: Bytes that a line adds to its body: custom_id, method, url and punctuation.
LINE_OVERHEAD_BYTES: Final = 128


class RequestState(StrEnum):
    """Where a request is; every change is compare-and-set on state and owner."""

    QUEUED = "queued"  #: its message lies in a Celery queue
    BATCHED = "batched"  #: a line of the batch that owns it
    RUNNING = "running"  #: being sent synchronously under the lease that owns it
    SETTLED = "settled"  #: its reply is stored; nothing changes it any more


class BatchState(StrEnum):
    """Where a batch is; each state is written before the step that it names begins."""

    CLAIMED = "claimed"  #: has its lines; nothing has been sent
    UPLOADING = "uploading"  #: the input file is on its way, or is up and `input_file` says so
    CREATING = "creating"  #: "create" may have been sent: see submission.py on doubt
    SUBMITTED = "submitted"  #: the upstream has it; `upstream_id` is known
    ENDED = "ended"  #: terminal at the upstream, or refused by it (`refusal`)
    DELIVERING = "delivering"  #: result files are being read
    CLEANING = "cleaning"  #: every line is settled or queued again; files are being deleted
    DONE = "done"  #: kept for RETENTION_SECONDS, for people who ask


class Lane(StrEnum):
    """The way a request takes to the upstream."""

    BATCH = "batch"  #: collected into a batch, half price
    SYNC = "sync"  #: sent at once by a worker, full price
    FLEX = "flex"  #: sent at once with `service_tier: flex`, half price while there is capacity


class Attempt(StrEnum):
    """What a caller without an Idempotency-Key says of equal requests before this one."""

    FIRST = "first"  #: none is known: it takes an orphan or is new
    RETRY = "retry"  #: there was one: it also waits a little until its predecessor is known to be an orphan
    JOIN = "join"  #: it has waited: it shares the oldest equal one, whose client seems to live


class Outcome(StrEnum):
    """What a final reply counts as in /stats."""

    SUCCESSFUL = "successful"  #: the upstream's 2xx
    FAILED = "failed"  #: the upstream's error
    SYNTHESIZED = "synthesized"  #: an error of our own in the upstream's shape


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """What requests must share to travel in one batch.

    Attributes:
        credential: reference of the sealed Authorization header.
        endpoint: path of the batched endpoint, such as `/v1/embeddings`.
        model: exactly as the caller spelt it: the upstream fails a file that mixes two spellings.
        organization, project: `OpenAI-Organization` and `OpenAI-Project`, empty when not sent.
        max_wait_seconds: how long after acceptance its batches are cancelled; 0: never.
        provider: whose upstream it is for, by its name in providers.toml.
        extra: what else a batch of this provider carries for all of its lines, as the dialect writes it.
    """

    credential: str
    endpoint: str
    model: str
    organization: str = ""
    project: str = ""
    max_wait_seconds: float = 0.0
    provider: str = "openai"
    extra: str = ""

    @property
    def id(self) -> str:
        """24 hex digits; equal for equal groups, on every host."""
        parts = [self.credential, self.endpoint, self.model, self.organization, self.project]
        if self.max_wait_seconds:
            parts.append(f"{self.max_wait_seconds:g}")
        if self.provider != "openai" or self.extra:  # groups from before there were others keep their ids
            parts += [f"provider {self.provider}", self.extra]
        return blake2b("\0".join(parts).encode(), digest_size=12).hexdigest()


def new_id() -> str:
    """A task id, custom_id or batch id: 32 hex digits that nobody can guess."""
    return uuid4().hex


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """What the caller behind an access token may have; 0: as much as it likes. Without a label there is no token."""

    label: str = ""
    requests_per_minute: int = 0
    waiting: int = 0
    micro_dollars_per_day: int = 0


UNLIMITED: Final = Allowance()


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One client call on its way into the pipeline.

    Attributes:
        body: the line's body: one JSON object on one line, `stream` taken out.
        inputs: embedding inputs, 1 for other endpoints; the upstream limits their sum per file.
        idempotency_key: the caller's `Idempotency-Key`, empty when not sent.
        fingerprint: digest of endpoint and body; the same key with another one is a conflict.
        attempt: whether the caller's SDK sends it for the first time.
        tries: how often it says that it has tried before.
        allowance: what its caller may have.
    """

    group: Group
    body: bytes = field(repr=False)
    fingerprint: str
    inputs: int = 1
    lane: Lane = Lane.BATCH
    idempotency_key: str = field(default="", repr=False)
    attempt: Attempt = Attempt.FIRST
    tries: int = 0
    allowance: Allowance = UNLIMITED
    id: str = field(default_factory=new_id)

    @property
    def line_bytes(self) -> int:
        """Bytes that the request takes in an input file."""
        return len(self.body) + LINE_OVERHEAD_BYTES

    @property
    def digest(self) -> str:
        """What it attaches by, scoped to the credential: its Idempotency-Key, or all that it is."""
        if self.idempotency_key:
            text = f"{self.group.credential}\0{self.idempotency_key}"
            return blake2b(text.encode(), digest_size=16).hexdigest()
        text = f"{self.group.id}\0{self.lane}\0{self.fingerprint}"
        return blake2b(text.encode(), digest_size=12).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What the caller gets: status, headers and the body's exact bytes."""

    status: int
    headers: dict[str, str]
    body: bytes = field(repr=False)
    outcome: Outcome

    @classmethod
    def of_upstream(cls, status: int, headers: dict[str, str], body: bytes) -> Reply:
        """The upstream's own answer; what is no header line of one is not passed on."""
        headers = {name: value for name, value in headers.items() if value.isascii() and value.isprintable()}
        outcome = Outcome.SUCCESSFUL if 200 <= status < 300 else Outcome.FAILED
        return cls(status=status, headers=headers, body=body, outcome=outcome)
