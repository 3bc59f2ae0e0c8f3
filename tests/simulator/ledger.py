"""What the upstream charged for: one entry per canonical request, so that a test sees what was paid twice.

It grows by one short entry per distinct request until a reset; everything else in the simulator is bounded.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from typing import Any

from tests.simulator.prompts import Body

#: Not part of a request's identity: a proxy that repeats a request may change them.
TRANSPORT = frozenset({"stream", "stream_options", "service_tier"})


def digest(endpoint: str, body: Body) -> str:
    """SHA-256 of the endpoint and the body, whatever its key order and spacing."""
    identity = {name: value for name, value in body.items() if name not in TRANSPORT}
    text = json.dumps([endpoint, identity], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


class Ledger:
    """Counts of billed requests, by content and (in batches) by custom_id."""

    def __init__(self) -> None:
        self._by_digest: Counter[str] = Counter()
        self._by_custom_id: Counter[str] = Counter()

    def bill(self, request: str, custom_id: str | None = None) -> None:
        """Charge for one request, given by its digest."""
        self._by_digest[request] += 1
        if custom_id is not None:
            self._by_custom_id[custom_id] += 1

    def as_json(self) -> dict[str, Any]:
        """The ledger as `GET /_control/stats` shows it."""
        return {
            "requests": self._by_digest.total(),
            "distinct": len(self._by_digest),
            "more_than_once": [request for request, times in self._by_digest.items() if times > 1],
            "by_custom_id": dict(self._by_custom_id),
        }
