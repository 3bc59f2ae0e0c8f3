"""A stored file and the object that the API shows for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.simulator.content import Content


@dataclass(frozen=True, kw_only=True)
class StoredFile:
    """An input, output or error file of one API key."""

    id: str
    key: str
    filename: str
    purpose: str
    content: Content
    created_at: float
    expires_at: float

    def as_json(self) -> dict[str, Any]:
        """The file object as the API shows it."""
        return {
            "id": self.id,
            "object": "file",
            "bytes": len(self.content),
            "created_at": int(self.created_at),
            "expires_at": int(self.expires_at),
            "filename": self.filename,
            "purpose": self.purpose,
            "status": "processed",
            "status_details": None,
        }
