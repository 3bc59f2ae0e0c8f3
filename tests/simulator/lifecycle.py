"""One batch and its way through the statuses, computed from timestamps whenever somebody looks: no timers, no threads.

validating -> failed | in_progress -> finalizing -> completed
validating, in_progress -> expired;  any of the unfinished -> cancelling -> cancelled
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import msgspec

from tests.simulator.config import Config
from tests.simulator.ends import End, Problem
from tests.simulator.files import StoredFile
from tests.simulator.greenlets import new_lock
from tests.simulator.validation import Checked, check


class Status(StrEnum):
    """The documented statuses of a batch."""

    VALIDATING = "validating"  # the input file is being checked
    FAILED = "failed"  # it was not acceptable: nothing ran
    IN_PROGRESS = "in_progress"  # lines are being answered
    FINALIZING = "finalizing"  # all are answered, the files are being written
    COMPLETED = "completed"  # the files are there
    EXPIRED = "expired"  # time ran out: some lines did not run
    CANCELLING = "cancelling"  # cancel was asked for
    CANCELLED = "cancelled"  # cancelled: some lines did not run


#: status -> the next one, and the configured delay after which it comes; a status not in here is an end
NEXT: Mapping[Status, tuple[Status, str]] = {
    Status.VALIDATING: (Status.IN_PROGRESS, "validate_delay"),
    Status.IN_PROGRESS: (Status.FINALIZING, "batch_delay"),
    Status.FINALIZING: (Status.COMPLETED, "finalize_delay"),
    Status.CANCELLING: (Status.CANCELLED, "cancel_delay"),
}
EXPIRING = (Status.VALIDATING, Status.IN_PROGRESS)
WINDOW_SECONDS = 86_400


@dataclass(eq=False, kw_only=True)
class Batch:
    """A batch; `at` has the moment at which each status was entered."""

    id: str
    key: str
    endpoint: str
    input: StoredFile
    metadata: dict[str, str] | None
    output_seconds: int | None
    config: Config
    end: End
    created_at: float
    status: Status = Status.VALIDATING
    at: dict[Status, float] = field(default_factory=dict)
    ran: int = 0  # lines that were worked off when the batch left in_progress
    problems: tuple[Problem, ...] = ()
    output_file_id: str | None = None
    error_file_id: str | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    released_at: float = math.inf  # when POST /_control/finish ended all waiting
    lock: AbstractContextManager[object] = field(default_factory=new_lock)
    _checked: Checked | None = None

    def __post_init__(self) -> None:
        self.at[Status.VALIDATING] = self.created_at

    @property
    def checked(self) -> Checked:
        """The result of validation; the file is read when it is first needed."""
        if self._checked is None:
            with self.lock:  # somebody else may be at it
                self._checked = self._checked or check(self.input.content, self.endpoint, self.config, self.id)
        return self._checked

    @property
    def ended(self) -> bool:
        """Is the status an end?"""
        return self.status not in NEXT

    @property
    def expires_at(self) -> float:
        """When the batch expires; infinity if it never does."""
        age = self.config.expire_after if self.end.expire_after is None else self.end.expire_after
        return self.created_at + age if age else math.inf

    @property
    def _stuck_in(self) -> str:
        """The status that the batch does not leave by itself."""
        if self.end.stuck or self.status != Status.IN_PROGRESS:
            return self.end.stuck
        return Status.IN_PROGRESS if self.checked.stuck else ""

    def due(self) -> tuple[Status, float]:
        """The next status and the moment it is entered; infinity at an end."""
        if self.ended:
            return self.status, math.inf
        following, delay = NEXT[self.status]
        entered = self.at[self.status]
        seconds = getattr(self.end, delay, None)
        seconds = getattr(self.config, delay) if seconds is None else seconds
        leaves = math.inf if self.status == self._stuck_in else entered + seconds
        leaves = max(entered, min(leaves, self.released_at))
        if self.status in EXPIRING and self.expires_at < leaves:
            return Status.EXPIRED, max(entered, self.expires_at)
        return following, leaves

    def enter(self, status: Status, at: float) -> None:
        """Change the status. A batch that validation refused fails instead of making progress."""
        if status == Status.IN_PROGRESS and (problems := self.end.fail or self.checked.problems):
            self.problems = tuple(problems)
            status = Status.FAILED
        if self.status == Status.IN_PROGRESS:
            self.ran = self.done(at) if status != Status.FINALIZING else len(self.checked.lines)
        self.status = status
        self.at[status] = at

    def done(self, now: float) -> int:
        """How many lines are worked off."""
        if self.status != Status.IN_PROGRESS:
            return self.ran
        elapsed = now - self.at[Status.IN_PROGRESS]
        share = min(1.0, elapsed / self.config.batch_delay) if self.config.batch_delay else 1.0
        if self.due()[0] == Status.EXPIRED or self.status == self._stuck_in:
            cap = self.config.expire_frac if self.end.expire_frac is None else self.end.expire_frac
            # Expiry is the promise that exactly this share has run by then.
            share = cap if now >= self.expires_at else min(share, cap)
        return int(share * len(self.checked.lines))

    def as_json(self, now: float) -> dict[str, Any]:
        """The batch object as the API shows it."""
        ended_at = {f"{status}_at": _seconds(self.at.get(status)) for status in Status if status != Status.VALIDATING}
        errors = [msgspec.to_builtins(problem) for problem in self.problems]
        shown = {
            "id": self.id,
            "object": "batch",
            "endpoint": self.endpoint,
            "model": self._checked.model or None if self._checked else None,
            "errors": {"object": "list", "data": errors} if errors else None,
            "input_file_id": self.input.id,
            "completion_window": "24h",
            "status": self.end.rename_status.get(self.status, self.status.value),
            "output_file_id": self.output_file_id,
            "error_file_id": "" if self.end.blank_error_file_id and not self.error_file_id else self.error_file_id,
            "created_at": int(self.created_at),
            "expires_at": int(min(self.expires_at, self.created_at + WINDOW_SECONDS)),
            **ended_at,
            "request_counts": self._counts(now),
            "usage": {
                "input_tokens": self.input_tokens,
                "input_tokens_details": {"cached_tokens": 0},
                "output_tokens": self.output_tokens,
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": self.input_tokens + self.output_tokens,
            },
            "metadata": self.metadata,
        }
        if self.end.omit_nulls:
            return {name: value for name, value in shown.items() if value is not None}
        return shown

    def _counts(self, now: float) -> dict[str, int]:
        if self.ended and self.end.request_counts is not None:
            return self.end.request_counts
        if self.status in (Status.VALIDATING, Status.FAILED) or Status.IN_PROGRESS not in self.at:
            return {"total": 0, "completed": 0, "failed": 0}
        done = self.done(now)
        failed = self.checked.failures[done]
        return {"total": len(self.checked.lines), "completed": done - failed, "failed": failed}


def _seconds(moment: float | None) -> int | None:
    return None if moment is None else int(moment)
