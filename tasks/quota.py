"""What is learnt of the upstream's enqueued-token limit: how much of a credential and model may be in flight.

The upstream says it only by failing a batch, and only after the batch was created. `claim.lua` keeps to
what was learnt: more by little steps while batches are admitted, half when one is refused.
"""

from __future__ import annotations

from typing import Final

from tasks import store

#: Longest pause after refusals in a row.
PAUSE_SECONDS: Final = 60.0
#: A limit that nobody has met for so long is forgotten.
REMEMBERED_SECONDS: Final = 86_400


def admitted(batch_id: str) -> None:
    """The upstream has accepted the batch into its queue."""
    _learn(batch_id, "admitted")


def refused(batch_id: str) -> None:
    """The upstream's queue was too full for the batch."""
    _learn(batch_id, "refused")


def _learn(batch_id: str, what: str) -> None:
    store.run("quota", batch_id, what, int(PAUSE_SECONDS * 1000), REMEMBERED_SECONDS)
