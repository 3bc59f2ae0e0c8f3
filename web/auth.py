"""The Authorization header: present, and turned into a reference."""

from __future__ import annotations

from werkzeug.datastructures import Headers

from tasks.errors import MissingCredential


def credential(headers: Headers) -> str:
    """The Authorization header's whole value, which the upstream will check.

    Raises:
        MissingCredential: there is none.
    """
    value = headers.get("Authorization", "").strip()
    if not value or value.lower() == "bearer":
        raise MissingCredential(
            "You didn't provide an API key. Provide it in an Authorization header using Bearer auth"
            " (i.e. Authorization: Bearer YOUR_KEY)."
        )
    return value
