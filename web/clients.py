"""What a caller's headers say of its patience: when it needs a sign of life, and which attempt this is. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from werkzeug.datastructures import Headers

from tasks.settings import Settings

#: Part of a caller's own timeout after which it hears from us.
SAFE: Final = 0.8
#: Python's: seconds between two bytes. Node's: only sent when the timeout was given with the call.
TIMEOUTS: Final = ("x-stainless-read-timeout", "x-stainless-timeout")
#: From this major version on, Node's timeout runs until the whole body is there: no sign of life stops it.
WHOLE_BODY_NODE: Final = 7
LAST_RETRY: Final = 2  # by default


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a caller bears silence.

    Attributes:
        first_seconds: silence before status and first byte.
        next_seconds: silence between two bytes.
        hasty: it will not wait for the body, whatever is sent, and does not come again.
    """

    first_seconds: float
    next_seconds: float
    hasty: bool


def patience(headers: Headers, config: Settings) -> Patience:
    """From the settings and the caller's own timeout, whichever is less."""
    own = SAFE * min(_number(headers, name, math.inf) for name in TIMEOUTS)
    hasty = (
        headers.get("x-stainless-lang") == "js"
        and _major(headers) >= WHOLE_BODY_NODE
        and tries(headers) >= LAST_RETRY
        and math.isinf(own)
    )
    return Patience(min(config.heartbeat_after_seconds, own), min(config.heartbeat_seconds, own), hasty)


def tries(headers: Headers) -> int:
    """How often the caller's SDK says that it has tried this call before."""
    return int(_number(headers, "x-stainless-retry-count", 0))


def _number(headers: Headers, name: str, default: float) -> float:
    return _parsed(headers.get(name, ""), default)


def _parsed(text: str, default: float) -> float:
    try:
        number = float(text)
    except ValueError:
        return default
    return number if 0 < number < math.inf else default


def _major(headers: Headers) -> int:
    return int(_parsed(headers.get("x-stainless-package-version", "").partition(".")[0], 0))
