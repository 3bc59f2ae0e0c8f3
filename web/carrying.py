"""What of a call's headers and query a batch can carry, as its provider says."""

from __future__ import annotations

from typing import Final

from werkzeug.datastructures import Headers, MultiDict

from tasks.providers.account import Extra
from tasks.providers.catalogue import Provider

#: Query parameters that the dialect reads itself.
READ: Final = {"openai": frozenset[str](), "anthropic": frozenset[str](), "gemini": frozenset({"alt", "key"})}
#: Headers that mean something to the upstream begin so.
PREFIX: Final = {"openai": "openai-", "anthropic": "anthropic-", "gemini": "x-goog-"}
#: Of these, the ones that a group has a place of its own for, or that say nothing about the answer.
PLACED: Final = frozenset({
    "openai-organization", "openai-project", "anthropic-dangerous-direct-browser-access", "x-goog-api-key",
    "x-goog-api-client",
})  # fmt: skip


def carried(provider: Provider, headers: Headers, query: MultiDict[str, str], root: str = "") -> Extra | None:
    """What all lines of its batch must share with this call; None if it has what no batch carries."""
    prefix = PREFIX[provider.dialect]
    names = {name.lower() for name in headers.keys()}
    if any(n.startswith(prefix) and n not in PLACED and n not in provider.headers for n in names):
        return None
    known = READ[provider.dialect] | set(provider.query)
    if "x-goog-api-key" in names:  # with two keys it is not for us to choose
        known -= {"key"}
    if any(name not in known or len(query.getlist(name)) > 1 for name in query):
        return None
    return Extra(
        headers={name: headers[name] for name in provider.headers if name in names},
        query={name: query[name] for name in provider.query if name in query},
        root=root,
    )
