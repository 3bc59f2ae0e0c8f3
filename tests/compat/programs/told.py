"""What the Python programs share: each makes the calls named on its command line and tells what came of them.

PROGRAM BASE_URL TIMEOUT_SECONDS CALL…; a time-out of 0 leaves the client its own. The key is in OPENAI_API_KEY.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

BASE_URL, TIMEOUT = sys.argv[1], float(sys.argv[2])
MODEL, EMBEDDING_MODEL = "gpt-4o-mini", "text-embedding-3-small"
SAY = 'say:{"name":"Ada","age":36}'  # the simulator answers what follows, as a call of the tool that is offered
FAIL = {"user": "fail-400"}  # the simulator answers 400
MESSAGE_LENGTH = 400


def options(**names: str) -> dict[str, Any]:
    """Base URL and time-out under a client's own names for them; no time-out where it keeps its own."""
    return {names["url"]: BASE_URL} | ({names["timeout"]: TIMEOUT} if TIMEOUT else {})


def asked(text: str) -> list[Any]:
    """A conversation of one message."""
    return [{"role": "user", "content": text}]


def tell(calls: dict[str, Callable[[], object]]) -> None:
    """Make the calls; a failure is told with the status that the client found in it."""
    report: dict[str, Any] = {}
    for name in sys.argv[3:]:
        try:
            report[name] = {"answer": str(calls[name]())}
        except Exception as error:
            message = f"{type(error).__name__}: {error}"[:MESSAGE_LENGTH]
            report[name] = {"status": getattr(error, "status_code", None), "error": message}
    sys.stdout.write(json.dumps(report) + "\n")
