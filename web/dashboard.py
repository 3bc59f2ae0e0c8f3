"""GET /dashboard: one page to look at. Rendered here, kept live by server-sent events, or by polling where they fail.

A page holds the figures of the last second, however many look; it loads nothing from elsewhere, and its policy
forbids it to.
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

import gevent
import redis
from flask import Blueprint, Response, current_app, redirect, render_template, request

from tasks import alerts, history, overview, spending, words
from tasks.errors import LlmProxyError, TooManyWaiting, UnknownPath
from tasks.settings import Settings
from web import access, plots
from web.waiting import Front

logger = logging.getLogger(__name__)

bp = Blueprint("dashboard", __name__, template_folder="templates")

STATIC: Final = Path(__file__).parent / "static"
TYPES: Final = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
    " base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
GUARDED: Final = ("/dashboard", "/stats", "/metrics")
BATCHES: Final = 20
GROUPS: Final = 8
MODELS: Final = 8
FAILURES: Final = 12
EVENT_SECONDS: Final = 2.0
#: A stream ends by itself, and the browser asks for another one: nobody who has gone is held for long.
STREAM_SECONDS: Final = 300.0
RETRY_MS: Final = 500
#: Of one process; whoever finds no place polls.
STREAMS: Final = 50

_streams = 0


@bp.after_request
def _guard(response: Response) -> Response:
    response.headers["Content-Security-Policy"] = POLICY
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "no-referrer"
    response.headers.setdefault("Cache-Control", "no-store")
    return response


@bp.get("/dashboard", provide_automatic_options=False)
def page() -> Response | tuple[str, int]:
    """The page, or the question for the token."""
    if not access.allowed():
        return render_template("login.html", version=_version()), 401
    return Response(render_template("dashboard.html", version=_version(), figures=_figures()), mimetype="text/html")


@bp.post("/dashboard/login", provide_automatic_options=False)
def login() -> Response | tuple[str, int]:
    """Take the token, and remember in a cookie that it was right."""
    if not access.is_token(request.form.get("token", "")):
        return render_template("login.html", version=_version(), wrong=True), 401
    response: Response = redirect("/dashboard", 303)  # type: ignore[assignment]  # werkzeug's own, which is ours
    for path in GUARDED:  # and nowhere else: other paths are relayed
        response.set_cookie(
            access.COOKIE,
            access.cookie(),
            max_age=7 * 86_400,
            path=path,
            httponly=True,
            samesite="Strict",
            secure=request.is_secure,
        )
    return response


@bp.get("/dashboard/figures", provide_automatic_options=False)
@access.guarded
def figures() -> Response:
    """What changes of the page, for those who poll."""
    return Response(_figures(), mimetype="text/html")


@bp.get("/dashboard/events", provide_automatic_options=False)
@access.guarded
def events() -> Response:
    """The same whenever it has changed."""
    if _streams >= STREAMS:
        raise TooManyWaiting("Too many pages are being kept live; this one polls.", retry_after_seconds=5)
    front: Front = current_app.extensions["front"]
    app = current_app._get_current_object()  # type: ignore[attr-defined]  # a proxy's own way

    def stream() -> Iterator[str]:
        global _streams
        _streams += 1
        try:
            ends, sent = time.monotonic() + STREAM_SECONDS, ""
            yield f"retry: {RETRY_MS}\n\n"
            while time.monotonic() < ends and not front.draining:
                with app.app_context():
                    try:
                        now = _figures()
                    except (redis.RedisError, LlmProxyError) as error:
                        logger.warning("the dashboard waits for Redis: %s", type(error).__name__)
                        now = sent
                yield _event(now) if now != sent else ": still\n\n"
                sent = now
                gevent.sleep(EVENT_SECONDS)
        finally:
            _streams -= 1

    return Response(stream(), mimetype="text/event-stream", headers={"X-Accel-Buffering": "no"})


@bp.get("/dashboard/<name>", provide_automatic_options=False)
def static(name: str) -> Response:
    """Style sheet, script, icon.

    Raises:
        UnknownPath: there is no such file.
    """
    if name not in _static():
        raise UnknownPath(f"There is no /dashboard/{name}.")
    response = Response(_static()[name], mimetype=TYPES[Path(name).suffix])
    response.headers["Cache-Control"] = "public, max-age=31536000, immutable"  # its address has the version
    return response


@functools.cache
def _static() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(STATIC.iterdir()) if path.suffix in TYPES}


@functools.cache
def _version() -> str:
    return blake2b(b"".join(_static().values()), digest_size=4).hexdigest()


def _event(text: str) -> str:
    return "".join(f"data: {line}\n" for line in text.split("\n")) + "\n"


_rendered: tuple[int, str] = (0, "")


def _figures() -> str:
    """The living part of the page; rendered once for all that look at the same second."""
    global _rendered
    seen = overview.recent()
    if _rendered[0] != seen["at_ms"]:
        _rendered = (seen["at_ms"], render_template("figures.html", words=words, **_view(seen)))
    return _rendered[1]


def _view(seen: dict[str, Any]) -> dict[str, Any]:
    config: Settings = current_app.extensions["settings"]
    steps, days, models = overview.hours(), overview.usage_by("day")[-spending.DAYS :], overview.usage_by("model")
    bars, lines = plots.ranges(steps)
    by_batch, by_group = seen["in_flight"]["by_batch"], seen["queued"]["by_group"]
    return {
        "seen": seen,
        "upstream": config.upstream_host,
        "alerts": alerts.alerts(seen),
        "batches": by_batch[:BATCHES],
        "more_batches": seen["in_flight"]["batches"] - len(by_batch[:BATCHES]),
        "groups": sorted(by_group, key=lambda group: -group["requests"])[:GROUPS],
        "more_groups": seen["queued"]["groups"] - len(by_group[:GROUPS]),
        "answers": plots.drawn(
            plots.stacked([[("ok", step["answers"] - step["failed"]), ("bad", step["failed"])] for step in steps])
        ),
        "answered": sum(step["answers"] for step in steps),
        "failed": sum(step["failed"] for step in steps),
        "busiest": max(step["answers"] for step in steps) / history.STEP,  # a minute
        "times": plots.drawn(bars),
        "lines": lines,
        "days": days,
        "money": plots.drawn(
            plots.stacked(
                [[("paid", day["cost_usd"]), ("saved", max(0.0, day["savings_usd"]))] for day in _every_day(days, seen)]
            )
        ),
        "models": models[:MODELS],
        "more_models": len(models) - len(models[:MODELS]),
        "failures": seen["failures"][:FAILURES],
    }


def _every_day(days: list[dict[str, Any]], seen: dict[str, Any]) -> list[dict[str, Any]]:
    """Thirty days up to today, those without answers too."""
    known = {day["day"]: day for day in days}
    nothing = {"cost_usd": 0.0, "savings_usd": 0.0}
    return [known.get(name, nothing) for name in words.days(seen["at_ms"], spending.DAYS)]
