"""Log lines: one per change, the id first, readable by people and by programs."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from gunicorn.workers.ggevent import GeventWorker

from tasks import celery, log
from web.worker import FrontWorker

ID = "0123456789abcdef" * 2


def line(kind: str, text: str, *args: object, fields: dict[str, object] | None = None) -> str:
    record = logging.LogRecord("tasks.leases", logging.INFO, __file__, 1, text, args, None)
    if fields is not None:
        record.fields = fields
    return log.Formatter(kind).format(record)


@pytest.mark.parametrize("text", ["%s submitted after creating", "%s: submitted after creating"])
def test_a_text_line_begins_with_the_id(text: str) -> None:
    shown = line("text", text, ID)

    assert shown.startswith(f"id={ID} time=2")
    assert shown.endswith('level=info logger=tasks.leases msg="submitted after creating"')


def test_a_json_line_has_the_same_fields_in_the_same_order() -> None:
    shown = json.loads(line("json", "%s answered", ID, fields={"status": 200, "path": "/v1/x"}))

    assert list(shown) == ["id", "time", "level", "logger", "msg", "status", "path"]
    assert (shown["id"], shown["msg"], shown["status"]) == (ID, "answered", 200)


@pytest.mark.parametrize("kind", ["text", "json"])
def test_whatever_is_said_stays_one_line(kind: str) -> None:
    try:
        raise ValueError("two\nlines")
    except ValueError:
        record = logging.getLogger("x").makeRecord(
            "x", logging.ERROR, __file__, 1, 'a "quoted"\nword = 1', (), __import__("sys").exc_info()
        )
    shown = log.Formatter(kind).format(record)

    assert "\n" not in shown
    assert "ValueError" in shown


def test_what_has_no_id_has_no_such_field() -> None:
    assert line("text", "worker ready.").startswith("time=")


@pytest.mark.parametrize("level", [logging.DEBUG, logging.ERROR])
def test_addresses_of_uploads_are_not_logged(level: int) -> None:
    root, quiet = logging.Logger("root", level), logging.getLogger("urllib3")
    before = quiet.level
    try:
        celery._logging(root)
        assert not quiet.isEnabledFor(logging.DEBUG)
        assert quiet.level >= level
    finally:
        quiet.setLevel(before)


def test_a_defect_is_logged_without_the_query_which_may_hold_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    class Asked:
        method, uri = "POST", "/gemini/v1beta/models/m:generateContent?key=secret"

    said: list[str] = []
    monkeypatch.setattr(
        GeventWorker, "handle_error", lambda _, req, client, addr, exc: said.append(f"{req.method} {req.uri}")
    )
    worker: Any = FrontWorker.__new__(FrontWorker)

    worker.handle_error(Asked(), None, ("", 0), KeyError("x"))

    assert said == ["POST /gemini/v1beta/models/m:generateContent"]
