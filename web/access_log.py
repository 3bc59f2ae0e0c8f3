"""The access log: one line for each answer, when its last byte is out or its client gone.

Flask is done with a held client long before, so the line is written where gunicorn is done with it; a relayed
answer, which gunicorn does not see, says so itself. Lines are kept for a moment and written together. No
body, no header but the caller's names for its request, and no query string stands in them.
"""

from __future__ import annotations

import re
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import gevent
from gunicorn.glogging import Logger

from tasks import log
from tasks.settings import settings

if TYPE_CHECKING:  # gunicorn imports this module before it patches the standard library
    from flask import Response

#: In a request's environ: its id, and the reply that came when a status had been sent already.
TASK, LATE = "llm_proxy.task", "llm_proxy.late"
KEEP_SECONDS: Final = 0.25
#: A look at one of them that went well is no news.
CHECKS: Final = frozenset({"/healthz", "/readyz"})
PATH_LENGTH: Final = 200
#: What a caller may call its request: it ends up in a line.
_NAME: Final = re.compile(r"[\w.:/+=@-]{1,128}", re.ASCII)
_TRACE: Final = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")


class AccessLogger(Logger):  # type: ignore[misc]  # gunicorn is not typed
    """gunicorn's logger, whose access lines are ours."""

    def access(self, resp: Any, req: Any, environ: dict[str, Any], request_time: timedelta) -> None:
        """Called when the answer has ended, in whichever way."""
        if not _wanted():
            return
        late: Response | None = environ.get(LATE)
        headers = late.headers.items() if late is not None else resp.headers
        ours = {name.lower(): value for name, value in headers if name[:2] in {"x-", "X-"}}
        status = late.status_code if late is not None else resp.status_code if resp.headers_sent else 0
        note(
            environ,
            "answered" if sys.exception() is None else "broken off" if late and status >= 300 else "client gone",
            status=status,
            seconds=request_time.total_seconds(),
            sent=resp.sent,
            lane=ours.get("x-batch-lane", ""),
            batch=ours.get("x-batch-id", ""),
        )


def note(environ: dict[str, Any], word: str, *, status: int, seconds: float, sent: int = 0, **more: str) -> None:
    """Write down one answer; `status` 0: none was sent."""
    path = environ.get("RAW_URI", "").partition("?")[0]
    if not _wanted() or (path in CHECKS and status == 200):
        return
    fields: dict[str, Any] = {"id": environ[TASK]} if TASK in environ else {}
    fields["time"] = datetime.now(UTC).isoformat(timespec="milliseconds")
    fields |= {"level": "info", "logger": "web.access", "msg": word, "method": environ.get("REQUEST_METHOD", "")}
    fields |= {"path": path[:PATH_LENGTH], "status": status, "ms": round(seconds * 1000), "bytes": sent}
    fields |= {name: value for name, value in more.items() if value}
    fields |= _names(environ)
    if not _lines:
        gevent.spawn_later(KEEP_SECONDS, flush)
    _lines.append(log.line(settings().log_format, fields))


def flush() -> None:
    """Write what has been kept."""
    text = "".join(f"{line}\n" for line in _lines)
    _lines.clear()
    sys.stderr.write(text)
    sys.stderr.flush()


_lines: list[str] = []


def _wanted() -> bool:
    return settings().log_level in {"DEBUG", "INFO"}


def _names(environ: dict[str, Any]) -> dict[str, str]:
    """What the caller calls its request."""
    found = {}
    if _NAME.fullmatch(name := environ.get("HTTP_X_REQUEST_ID", "")):
        found["request_id"] = name
    if trace := _TRACE.fullmatch(environ.get("HTTP_TRACEPARENT", "")):
        found["trace"] = trace[1]
    return found
