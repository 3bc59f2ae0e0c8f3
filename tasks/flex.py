"""Flex processing: a synchronous call at the batch price, while the upstream has capacity for it. Pure."""

from __future__ import annotations

from typing import Final

import msgspec

#: Only these endpoints know it.
ENDPOINTS: Final = frozenset({"/v1/chat/completions", "/v1/responses"})
TIER: Final = "service_tier"

_object = msgspec.json.Decoder(dict[str, msgspec.Raw])


def body(endpoint: str, given: bytes) -> bytes | None:
    """The body that asks for flex; None where it cannot be asked for, or the caller has named a tier.

    Other members keep their bytes and their order.
    """
    members = _object.decode(given)
    if endpoint not in ENDPOINTS or TIER in members:
        return None
    return msgspec.json.encode({**members, TIER: "flex"})


def is_unavailable(status: int, answer: bytes) -> bool:
    """Whether the upstream has no capacity, or no flex for this model: nothing was run, the standard tier may do it."""
    try:
        error = msgspec.json.decode(answer)["error"]
        words = " ".join(str(error.get(name) or "") for name in ("code", "type", "message", "param")).lower()
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return False
    if status == 429:
        return "resource_unavailable" in words or "resource unavailable" in words
    return status == 400 and TIER in words
