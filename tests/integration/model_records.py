"""What the model of the scripts remembers of each request and batch."""

from __future__ import annotations

from dataclasses import dataclass, field

from tasks import message
from tasks.models import BatchState, Group, Lane, Request


@dataclass
class Ask:
    """A request as it should be."""

    request: Request
    state: str = "queued"
    owner: str = ""
    attempts: int = 0
    missing: int = 0
    attached: bool = False
    lease_over: bool = False
    sent: bool = False  # by who has it now

    @property
    def queue(self) -> str:
        """Where its message belongs."""
        return message.group_queue(self.request.group.id) if self.request.lane is Lane.BATCH else "sync"


@dataclass
class Made:
    """A batch as it should be."""

    group: Group
    state: BatchState = BatchState.CLAIMED
    holder: str = ""  # token of the lease that is valid now
    paused: bool = False
    outcomes: list[str] = field(default_factory=list)
