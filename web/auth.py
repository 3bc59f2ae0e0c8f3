"""The caller's key: present, in one of the places where its provider reads it."""

from __future__ import annotations

from typing import Final

from werkzeug.datastructures import Headers, MultiDict

from tasks.errors import InvalidRequest, MissingCredential
from tasks.providers.catalogue import Provider

#: Headers that some provider takes a key from.
NAMES: Final = frozenset({"authorization", "api-key", "x-api-key", "x-goog-api-key"})


def brought(provider: Provider, headers: Headers, query: MultiDict[str, str]) -> str:
    """The key of a call to a provider; Google's may stand in the query instead.

    Raises:
        MissingCredential: there is none.
        InvalidRequest: what is there is no key.
    """
    key = query.get("key", "") if provider.dialect == "gemini" else ""
    if not key or "x-goog-api-key" in headers:
        return credential(headers, provider.auth)
    if not (key.isascii() and key.isprintable()):
        raise InvalidRequest("'key' is no API key.", param="key")
    return credential(Headers({**headers, "x-goog-api-key": key}), provider.auth)


def bare(credential_: str) -> str:
    """The key itself; empty if it is not carried as a bearer token, nor by a header of its own."""
    _, line, value = credential_.partition("\n")
    if line:
        return value
    scheme, _, value = credential_.partition(" ")
    return value.strip() if scheme.lower() == "bearer" else ""


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
