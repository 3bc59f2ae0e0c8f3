"""The caller's key: present, in one of the headers that its provider reads."""

from __future__ import annotations

from werkzeug.datastructures import Headers

from tasks.errors import MissingCredential


def credential(headers: Headers, names: tuple[str, ...] = ("authorization",)) -> str:
    """The key as the upstream will check it: Authorization's whole value, or another header's name and value.

    Raises:
        MissingCredential: there is none.
    """
    name = next((name for name in names if headers.get(name, "").strip()), "authorization")
    value = headers.get(name, "").strip()
    if name != "authorization" and value:
        return f"{name}\n{value}"
    if not value or value.lower() == "bearer":
        raise MissingCredential(
            "You didn't provide an API key. Provide it in an Authorization header using Bearer auth"
            " (i.e. Authorization: Bearer YOUR_KEY)."
        )
    return value
