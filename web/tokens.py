"""Who a caller is: whoever brings a key, or, with ACCESS_TOKENS_FILE, who brings a token of ours.

A token stands for the proxy's own upstream key, which all tokens share. So what callers have stored under that key is
there for each of them at the upstream: a token opens only endpoints that keep nothing, or answer by an id that
nobody can guess. The key is OpenAI's, so a token is good for nothing at the other providers, and with tokens
they are closed: who has none is not let in.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from flask import current_app, request

from tasks import allowances
from tasks.access import Token, Tokens
from tasks.errors import InvalidToken, NotForThisToken
from tasks.models import UNLIMITED, Allowance
from tasks.providers.catalogue import Provider
from tasks.settings import Settings
from web import auth

#: Matched against the target as it was sent: what is encoded or has dots in it is none of these.
FREE: Final = re.compile(r"GET /v1/models(/[\w:-][\w.:-]*)?")
ACCOUNTS: Final = ("OpenAI-Organization", "OpenAI-Project")
SAFE: Final = re.compile(
    r"POST /v1/(chat/completions|embeddings|responses|completions|moderations|images/(generations|edits|variations)"
    r"|audio/(speech|transcriptions|translations))"
    r"|(GET|POST|DELETE) /v1/responses/resp_\w+(/cancel|/input_items)?"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """What the upstream sees of a caller, and what we do.

    Attributes:
        credential: the Authorization header for the upstream.
    """

    credential: str = field(repr=False)
    allowance: Allowance


def caller(provider: Provider) -> Caller:
    """The present request's caller.

    Raises:
        MissingCredential: there is neither key nor token.
        InvalidToken: no such token.
        NotForThisToken: it stands for no key of this provider.
    """
    brought = auth.brought(provider, request.headers, request.args)
    token = _token(provider, brought)
    if token is None:
        return Caller(credential=brought, allowance=UNLIMITED)
    config: Settings = current_app.extensions["settings"]
    return Caller(credential=config.upstream_authorization, allowance=token.allowance)


def relayed(provider: Provider, method: str, target: str) -> str | None:
    """The Authorization header for a relayed request; None: the one that was sent.

    Raises:
        MissingCredential: there is no token.
        InvalidToken: no such token.
        NotForThisToken: this would show, or cost, what is not the caller's.
        LimitReached: it may not send more now.
    """
    if current_app.extensions["tokens"] is None:
        return None
    token = _token(provider, auth.brought(provider, request.headers, request.args))
    if token is None:
        return None
    call = f"{method} {target.partition('?')[0]}"
    if not (token.relays_all or FREE.fullmatch(call) or SAFE.fullmatch(call)):
        raise NotForThisToken(
            f"{method} on this path is not open to access tokens: it could show what other callers have stored under"
            " the key that they share. An operator opens it with relay=all."
        )
    if token.allowance.micro_dollars_per_day and not (token.relays_all or FREE.fullmatch(call)):
        raise NotForThisToken(
            "This call is not batched, so its price would not be counted, and the token has a limit of dollars per"
            " day. Send it without a query string, `OpenAI-` headers and `background`, or have relay=all added."
        )
    allowances.use(token.allowance)
    config: Settings = current_app.extensions["settings"]
    return config.upstream_authorization


def _token(provider: Provider, brought: str) -> Token | None:
    tokens: Tokens | None = current_app.extensions["tokens"]
    if tokens is None:
        return None
    token = tokens.find(auth.bare(brought))
    if token is None:
        raise InvalidToken("Incorrect API key provided: this proxy takes access tokens of its own.")
    if provider.name != "openai":
        raise NotForThisToken(
            f"An access token stands for the proxy's key at OpenAI's upstream, and this proxy has none for"
            f" {provider.name}: with access tokens only OpenAI's endpoints are open."
        )
    if not token.relays_all and any(name in request.headers for name in ACCOUNTS):
        raise NotForThisToken("An access token cannot choose whose account the shared key is used for.")
    return token
