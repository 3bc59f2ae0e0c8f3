"""Remembers that the upstream does not batch a group's model or endpoint, so that it is not asked for each batch.

`accept.lua` reads it, too: with UNBATCHABLE=sync such requests go straight to the synchronous lane.
"""

from __future__ import annotations

from tasks import connections, store
from tasks.batches import decode_refusal, encode_refusal
from tasks.models import Reply

#: After this time the upstream is asked again.
REMEMBERED_SECONDS = 3600
#: The field `unbatchable` of a batch that was refused from memory; 1 if the upstream has said so itself.
REMEMBERED = 2


def remember(group_id: str, reply: Reply) -> None:
    """Note the upstream's refusal. The group is known by credential: another caller's key may have other models."""
    store.run("unbatchable", group_id, encode_refusal(reply), REMEMBERED_SECONDS * 1000)


def refusal(group_id: str) -> Reply | None:
    """The upstream's refusal, while it is remembered."""
    until, text = connections.client().hmget(f"{store.PREFIX}group:{group_id}", "unbatchable_until", "unbatchable")
    return decode_refusal(text.decode()) if until and text and int(until) > store.now_ms() else None
