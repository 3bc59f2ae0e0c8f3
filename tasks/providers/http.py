"""Calls to the upstream over HTTP: one session, total deadlines, answers turned into errors.

Nothing is retried here: whoever calls knows whether repeating is safe, and waits without
holding a worker.
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from http.cookiejar import DefaultCookiePolicy
from typing import Any

import gevent
import msgspec
import requests
import urllib3
from requests.adapters import HTTPAdapter

from tasks.errors import UpstreamRefused, UpstreamTrouble
from tasks.settings import settings

CONNECT_SECONDS = 10.0
#: Largest error body that is kept for the callers.
ERROR_BYTES = 1_000_000
#: More than any object or page of a list that we ask for.
MOST_JSON_BYTES = 16_000_000
PIECE_BYTES = 256 * 1024
POOL_CONNECTIONS = 100
#: Answers that say "not now" although nothing is wrong with the request.
RETRYABLE = frozenset({408, 409, 425, 429})
#: Of these, the ones that say that nothing was done.
WITHOUT_EFFECT = frozenset({409, 425, 429})


@functools.cache
def _session() -> requests.Session:
    session = requests.Session()
    session.trust_env = False  # no proxy, and no netrc in place of the caller's Authorization
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))  # nobody's cookie goes to another caller
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(pool_connections=4, pool_maxsize=POOL_CONNECTIONS))
    return session


@contextlib.contextmanager
def call(
    method: str, path: str, *, headers: dict[str, str], deadline_seconds: float, **options: Any
) -> Iterator[requests.Response]:
    """One call; yields the streamed response of a 2xx while the body is read.

    Args:
        deadline_seconds: for everything from connecting to the last byte read.

    Raises:
        UpstreamRefused: 3xx, or a 4xx that asking again will not change.
        UpstreamTrouble: no answer, a broken one, or one that says "not now".
    """
    late = UpstreamTrouble(f"{method} {path} took longer than {deadline_seconds:.0f} s", in_doubt=True)
    try:
        with (
            gevent.Timeout(deadline_seconds, late),
            _session().request(
                method,
                settings().upstream.rstrip("/") + path,
                headers=headers,
                timeout=(CONNECT_SECONDS, deadline_seconds),
                allow_redirects=False,
                stream=True,
                **options,
            ) as response,
        ):
            _check(response)
            yield response
    except requests.ConnectTimeout as error:
        raise UpstreamTrouble(f"{method} {path}: no connection", in_doubt=False) from error
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        refused = "NewConnectionError" in repr(error) or "NameResolutionError" in repr(error)
        raise UpstreamTrouble(f"{method} {path}: {type(error).__name__}", in_doubt=not refused) from error


def call_json(method: str, path: str, **options: Any) -> dict[str, Any]:
    """One call whose 2xx carries a JSON object."""
    with call(method, path, **options) as response:
        try:
            answer = msgspec.json.decode(read(response, MOST_JSON_BYTES) or b"")
        except (ValueError, RecursionError):
            answer = None
    if not isinstance(answer, dict):
        raise UpstreamTrouble(f"{method} {path}: the answer is no JSON object", in_doubt=True)
    return answer


def read(response: requests.Response, most: int) -> bytes | None:
    """A whole body, unpacked; None if it has more bytes than that, however few it was sent as."""
    pieces: list[bytes] = []
    size = 0
    for piece in response.iter_content(PIECE_BYTES):
        pieces.append(piece)
        size += len(piece)
        if size > most:
            return None
    return b"".join(pieces)


def _check(response: requests.Response) -> None:
    status = response.status_code
    if 200 <= status < 300:
        return
    body = response.raw.read(ERROR_BYTES, decode_content=True) or b""
    answer = UpstreamRefused(status, body, reply_headers(response))
    if status in RETRYABLE or status >= 500:
        raise UpstreamTrouble(
            f"the upstream answered {status}",
            in_doubt=status not in WITHOUT_EFFECT,
            retry_after_seconds=retry_after(response.headers.get("retry-after")),
            answer=answer,
        )
    raise answer


def retry_after(value: str | None) -> float | None:
    """Seconds that a Retry-After header asks for: a number or a date."""
    if not value:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None


def reply_headers(response: requests.Response) -> dict[str, str]:
    """The upstream's headers that mean something to the caller of another connection."""
    kept = ("content-type", "x-request-id", "retry-after", "openai-processing-ms", "x-should-retry")
    return {name: response.headers[name] for name in kept if name in response.headers}
