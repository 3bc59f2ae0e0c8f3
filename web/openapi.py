"""GET /openapi.json: a description of the endpoints that are ours. All others are the upstream's."""

from __future__ import annotations

from typing import Any, Final

from flask import Blueprint, Response, jsonify

from tasks import __version__
from web import webhooks

bp = Blueprint("openapi", __name__)

OBJECT: Final = {"type": "object"}
NUMBER: Final = {"type": "number", "minimum": 0}
STATUS: Final = {"type": "object", "required": ["status"], "properties": {"status": {"const": "ok"}}}
ERROR: Final = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}
TIMES: Final = ("avg_time_ms", "p50_time_ms", "p95_time_ms", "p99_time_ms")


def _answer(schema: dict[str, Any], what: str) -> dict[str, Any]:
    return {"description": what, "content": {"application/json": {"schema": schema}}}


def _error(what: str) -> dict[str, Any]:
    return _answer({"$ref": "#/components/schemas/Error"}, what)


def _figures(*names: str) -> dict[str, Any]:
    names = ("total", "successful", "failed", *names, *TIMES)
    return {"type": "object", "required": list(names), "properties": dict.fromkeys(names, NUMBER)}


def _page(summary: str, media_type: str) -> dict[str, Any]:
    shown = {"description": "as it is", "content": {media_type: {"schema": {"type": "string"}}}}
    refused = {"description": GUARDED}
    return {"get": {"summary": summary, "responses": {"200": shown, "401": refused, "503": _error("Redis is away")}}}


def _get(summary: str, schema: dict[str, Any], **more: dict[str, Any]) -> dict[str, Any]:
    return {"get": {"summary": summary, "responses": {"200": _answer(schema, "as it is"), **more}}}


GUARDED: Final = "LLM_PROXY_STATS_TOKEN is set, and was not brought"
STATS: Final = {
    "type": "object",
    "required": ["requests", "batches"],
    "properties": {"requests": _figures("synthesized_error_responses"), "batches": _figures()},
}
SIGNED: Final = ("webhook-id", "webhook-timestamp", "webhook-signature")
EVENT: Final = {
    "type": "object",
    "required": ["type"],
    "properties": {"type": {"type": "string"}, "data": {"type": "object", "properties": {"id": {"type": "string"}}}},
}
WEBHOOK: Final = {
    "post": {
        "summary": "An event of the upstream, signed by Standard Webhooks",
        "parameters": [
            {"name": name, "in": "header", "required": True, "schema": {"type": "string"}} for name in SIGNED
        ],
        "requestBody": {"required": True, "content": {"application/json": {"schema": EVENT}}},
        "responses": {
            "200": _answer(STATUS, "taken"),
            "400": _error("no event, or no HTTP"),
            "401": _error("not signed by LLM_PROXY_WEBHOOK_SECRETS, or too old"),
            "408": _error("the body came too slowly"),
            "413": _error("the body is longer than any event"),
            "404": _error("LLM_PROXY_WEBHOOK_SECRETS is not set"),
            "409": _error("it came before"),
            "431": _error("headers too long"),
        },
    }
}
#: By path. Whoever adds an endpoint of ours adds it here; a test compares.
PATHS: Final[dict[str, Any]] = {
    "/healthz": _get("This process runs", STATUS),
    "/readyz": _get("It may be sent traffic", STATUS, **{"503": _error("Redis is away, or it is going away")}),
    "/stats": _get("Figures of all processes", STATS, **{"401": _error(GUARDED), "503": _error("Redis is away")}),
    "/metrics": _page("The same for Prometheus", "text/plain"),
    "/dashboard": _page("The same for people; what it loads is below it", "text/html"),
    "/dashboard/figures": _page("The part of the page that changes", "text/html"),
    "/openapi.json": _get("This description", OBJECT),
    webhooks.PATH: WEBHOOK,
}
DOCUMENT: Final[dict[str, Any]] = {
    "openapi": "3.1.0",
    "info": {"title": "llm-proxy: endpoints of its own", "version": __version__},
    "paths": PATHS,
    "components": {"schemas": {"Error": ERROR}},
}


@bp.get("/openapi.json", provide_automatic_options=False)
def show() -> Response:
    """The document."""
    return jsonify(DOCUMENT)
