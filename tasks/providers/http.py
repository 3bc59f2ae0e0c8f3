"""Calls to the upstream over HTTP: one session, total deadlines, answers turned into errors.

Nothing is retried here: whoever calls knows whether repeating is safe, and waits without
holding a worker.
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from email.utils import parsedate_to_datetime
from http.cookiejar import DefaultCookiePolicy
from typing import Any

import gevent
import msgspec
import requests
import urllib3
from requests.adapters import HTTPAdapter

from tasks.errors import UpstreamRefused, UpstreamTrouble

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
    method: str, path: str, *, base: str, headers: dict[str, str], deadline_seconds: float, **options: Any
) -> Iterator[requests.Response]:
    """One call; yields the streamed response of a 2xx while the body is read.

    Args:
        base: what precedes the path in the URL; errors and logs do not name it.
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
                base + path,
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


def json_object(response: requests.Response, what: str, most: int = MOST_JSON_BYTES) -> dict[str, Any]:
    """The JSON object in a 2xx.

    Args:
        most: bytes that it may have.

    Raises:
        UpstreamTrouble: there is none.
    """
    try:
        answer = msgspec.json.decode(read(response, most) or b"")
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict):
        raise UpstreamTrouble(f"{what}: the answer is no JSON object", in_doubt=True)
    return answer


def items(page: dict[str, Any], name: str, what: str) -> list[dict[str, Any]]:
    """What stands on a page of a list.

    Raises:
        UpstreamTrouble: it is no list: "not in it" would mean that a batch is created once more.
    """
    found = page.get(name)
    if not isinstance(found, list):
        raise UpstreamTrouble(f"{what}: the answer is no list", in_doubt=False)
    return [item for item in found if isinstance(item, dict)]


def text(answer: dict[str, Any], name: str) -> str:
    """A member that must be there, such as an id.

    Raises:
        UpstreamTrouble: it is not.
    """
    if not isinstance(answer.get(name), str) or not answer[name]:
        raise UpstreamTrouble(f"the upstream's answer has no {name}", in_doubt=True)
    return str(answer[name])


def delete(called: AbstractContextManager[requests.Response], gone: frozenset[int] = frozenset({404})) -> None:
    """Make the call that deletes something; what is gone already is deleted.

    Args:
        gone: statuses that say so.

    Raises:
        UpstreamTrouble, UpstreamRefused: it may still be there.
    """
    try:
        with called as response:
            if read(response, MOST_JSON_BYTES) is None:  # read, so that the connection can be used again
                raise UpstreamTrouble("the upstream's answer does not end", in_doubt=True)
    except UpstreamRefused as error:
        if error.status not in gone:
            raise


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
    kept = ("content-type", "x-request-id", "retry-after", "openai-processing-ms", "x-should-retry", "request-id")
    return {name: response.headers[name] for name in kept if name in response.headers}
