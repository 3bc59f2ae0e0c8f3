"""How log lines look: one for each state change, as key=value or as JSON, the id of the batch or request first.

Messages begin with the id; here it becomes a field. Nothing in a message is a body or a key.
"""

from __future__ import annotations

import json
import logging
import re
from datetime import UTC, datetime
from typing import Any, Final

_ID: Final = re.compile(r"([0-9a-f]{32}):? +")
_WORD: Final = re.compile(r"[^\s\"=]+").fullmatch


class Formatter(logging.Formatter):
    """LOG_FORMAT's lines; fields that a record brings as `fields` stand behind the message."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self._kind = kind

    def format(self, record: logging.LogRecord) -> str:
        """One line; a traceback is a field, too."""
        text = record.getMessage()
        found = _ID.match(text)
        fields: dict[str, Any] = {"id": found[1]} if found else {}
        fields["time"] = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        fields["level"] = record.levelname.lower()
        fields["logger"] = record.name
        fields["msg"] = text[found.end() :] if found else text
        fields |= getattr(record, "fields", {})
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return line(self._kind, fields)


def line(kind: str, fields: dict[str, Any]) -> str:
    """Fields in LOG_FORMAT, without an end."""
    if kind == "json":
        return json.dumps(fields, ensure_ascii=False, default=str)
    return " ".join(f"{name}={_quoted(value)}" for name, value in fields.items())


def _quoted(value: Any) -> str:
    """As it is, or as a JSON string where it would not be one word."""
    text = str(value)
    return text if _WORD(text) else json.dumps(text, ensure_ascii=False)


def configuration(style: str, level: str) -> dict[str, Any]:
    """For `logging.config.dictConfig`: everything to stderr, gunicorn's own lines too."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"()": Formatter, "kind": style}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
        "root": {"level": level, "handlers": ["stderr"]},
        "loggers": {"gunicorn.error": {"level": level, "handlers": [], "propagate": True}},
    }
