"""Who may look: everybody, or whoever knows STATS_TOKEN, as a bearer token or by the dashboard's cookie."""

from __future__ import annotations

import functools
import hmac
from collections.abc import Callable
from hashlib import blake2b
from typing import ParamSpec, TypeVar

from flask import current_app, request

from tasks.errors import MissingCredential
from tasks.settings import Settings

P = ParamSpec("P")
R = TypeVar("R")

COOKIE = "llm_proxy_stats"


def guarded(view: Callable[P, R]) -> Callable[P, R]:
    """A view that wants the token, if one is set."""

    @functools.wraps(view)
    def guarded_view(*args: P.args, **kwargs: P.kwargs) -> R:
        if not allowed():
            raise MissingCredential(
                "This page wants the token of LLM_PROXY_STATS_TOKEN: Authorization: Bearer <token>.",
                code="stats_token_required",
            )
        return view(*args, **kwargs)

    return guarded_view


def allowed() -> bool:
    """Whether the present request may look."""
    token = _token()
    if not token:
        return True
    given = request.headers.get("Authorization", "").removeprefix("Bearer ").strip()
    return is_token(given) or _equal(request.cookies.get(COOKIE, ""), cookie())


def is_token(given: str) -> bool:
    """Whether this is the token."""
    return _equal(given, _token())


def cookie() -> str:
    """What the dashboard's cookie holds: a digest, so that the token itself lies in no browser."""
    return blake2b(_token().encode(), digest_size=24, person=b"lp-stats").hexdigest()


def _token() -> str:
    config: Settings = current_app.extensions["settings"]
    return config.stats_token


def _equal(given: str, right: str) -> bool:
    return hmac.compare_digest(given.encode(), right.encode())
