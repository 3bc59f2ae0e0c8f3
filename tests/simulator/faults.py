"""Scripted trouble with single calls: which call is struck, and how. Deterministic: counts and seeded dice only."""

from __future__ import annotations

import errno
import json
import socket
import struct
from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from random import Random
from typing import Annotated, Any

import msgspec
from flask import Response

from tests.simulator.errors import ApiError
from tests.simulator.greenlets import sleep

KINDS = r"^([45]\d\d|reset_before|reset_after|error_after|hang|truncate|slow|dribble|endless)$"
#: These strike the answer: the call takes effect.
OF_THE_ANSWER = frozenset({"reset_after", "error_after", "truncate", "dribble", "endless"})
#: A close with this option is a reset instead of an orderly end.
RESET_ON_CLOSE = struct.pack("ii", 1, 0)
HANG_SECONDS = 3600.0
PIECES = 5
BLANKS = b" " * (1 << 16)

#: status -> (message, type, code) of the errors OpenAI really sends
REFUSALS: Mapping[int, tuple[str, str, str | None]] = {
    401: ("Incorrect API key provided.", "invalid_request_error", "invalid_api_key"),
    404: ("Not found.", "invalid_request_error", None),
    429: ("Rate limit reached for requests. Please try again later.", "requests", "rate_limit_exceeded"),
    500: ("The server had an error while processing your request. Sorry about that!", "server_error", None),
    503: ("The engine is currently overloaded, please try again later.", "server_error", None),
}


class Fault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One rule: the calls it strikes and what becomes of them."""

    path: str  # "POST /v1/batches"; * matches anything, slashes too
    kind: Annotated[str, msgspec.Meta(pattern=KINDS)]  # a status, or one of the words in KINDS
    count: int | None = None  # strikes at most this often; None: always
    skip: int = 0  # lets this many matching calls through first
    rate: float = 1.0  # strikes with this probability ...
    seed: int = 0  # ... by dice that always fall alike
    seconds: float = 0.0  # waits this long first; between the pieces of a body that dribbles or is endless
    part: float = 0.5  # share of the body after which "truncate" cuts it
    retry_after: str | None = None  # header of a refusal
    code: str | None = None  # of a refusal, instead of the usual one
    message: str | None = None


class Script:
    """The rules together with how often each has struck."""

    def __init__(self, rules: Iterable[Fault]) -> None:
        self._rules = [(rule, Random(rule.seed)) for rule in rules]
        self._seen = [0] * len(self._rules)
        self._struck = [0] * len(self._rules)

    def pick(self, call: str) -> Fault | None:
        """The first rule that strikes this call, if any."""
        for index, (rule, dice) in enumerate(self._rules):
            if not fnmatchcase(call, rule.path):
                continue
            self._seen[index] += 1
            used_up = rule.count is not None and self._struck[index] >= rule.count
            if self._seen[index] <= rule.skip or used_up or dice.random() >= rule.rate:
                continue
            self._struck[index] += 1
            return rule
        return None


def refusal(fault: Fault) -> ApiError:
    """The error answer of a rule whose kind is a status."""
    status = int(fault.kind)
    default = ("Simulated trouble.", "invalid_request_error" if status < 500 else "server_error", None)
    message, kind, code = REFUSALS.get(status, default)
    headers = {"retry-after": fault.retry_after} if fault.retry_after is not None else {}
    return ApiError(status, fault.message or message, kind=kind, code=fault.code or code, headers=headers)


def cut(environ: Mapping[str, Any]) -> Response:
    """An answer that never comes: when the server asks for its first byte, the connection is reset."""
    return Response(map(_reset, [environ.get("simulator.socket")]))


def _reset(connection: socket.socket | None) -> bytes:
    if connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    raise BrokenPipeError(errno.EPIPE, "cut on purpose")


def spoil(response: Response, fault: Fault) -> Response:
    """The same answer with something wrong about it; "error_after" says that nothing was done although it was."""
    if fault.kind == "error_after":
        error = refusal(msgspec.structs.replace(fault, kind="500"))
        return Response(json.dumps(error.body), error.status, error.headers, mimetype="application/json")
    if fault.kind == "truncate":
        return _truncate(response, fault.part)
    return _dribble(response, fault) if fault.kind == "dribble" else _endless(response, fault)


def _truncate(response: Response, part: float) -> Response:
    """The connection is closed within the body, in spite of its Content-Length."""
    size = response.content_length or response.calculate_content_length() or 0
    body = response.iter_encoded()

    def first_part() -> Iterator[bytes]:
        left = int(size * part)
        for chunk in body:
            yield chunk[:left]
            left -= len(chunk)
            if left <= 0:
                break
        raise BrokenPipeError(errno.EPIPE, "cut on purpose")

    response.direct_passthrough = False
    response.response = first_part()
    if size:
        response.content_length = size
    return response


def _dribble(response: Response, fault: Fault) -> Response:
    """The body comes in a few pieces, with pauses between them."""
    body, size = response.iter_encoded(), response.content_length

    def pieces() -> Iterator[bytes]:
        whole = b"".join(body)
        step = len(whole) // PIECES + 1
        for start in range(0, len(whole), step):
            yield whole[start : start + step]
            sleep(fault.seconds)

    response.direct_passthrough = False
    response.response = pieces()
    response.content_length = size
    return response


def _endless(response: Response, fault: Fault) -> Response:
    """After its body the answer goes on, with blanks and no line end, for as long as somebody reads."""
    body = response.iter_encoded()

    def pieces() -> Iterator[bytes]:
        yield from body
        while True:
            sleep(fault.seconds)
            yield BLANKS

    response.direct_passthrough = False
    response.response = pieces()
    response.headers.remove("content-length")
    return response
