"""Hints from the upstream that a batch has ended: it is looked at now, not at its next turn.

A hint is never a source of truth. If it is lost, forged or early, nothing happens but a look.
"""

from __future__ import annotations

from typing import Final

from tasks import message, store
from tasks.models import new_id

#: Longer than a signature is valid.
REMEMBERED_SECONDS: Final = 900


def ended(event_id: str, upstream_id: str) -> str:
    """Have a batch looked at; returns our id of it, "unknown", or "replayed" when the event came before."""
    answer: bytes = store.run("hint", event_id, upstream_id, REMEMBERED_SECONDS, message.look_template(new_id()))
    return answer.decode()
