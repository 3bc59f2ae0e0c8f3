"""Everything that is not batched goes to the upstream as it came and comes back as it is.

This file decides what is relayed and under which target and headers; `web/exchange.py` does it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from typing import Any, Final

from flask import Flask, Response, current_app, request
from gunicorn.workers.base_async import ALREADY_HANDLED

from tasks.errors import UnknownPath, UpstreamLost
from tasks.providers import catalogue
from tasks.providers.catalogue import Provider, Providers
from tasks.settings import Settings, variable
from web import access_log, auth, shapes, tokens
from web.errors import envelope
from web.exchange import Exchange, Headers, end_to_end
from web.incoming import IncomingRequest, linger
from web.upstream import Upstream
from web.waiting import Front

logger = logging.getLogger(__name__)

OURS: Final = (b"idempotency-key", b"x-batch-mode", b"x-batch-max-wait")


class Relayed(Response):
    """What the caller has been sent already."""

    def __call__(self, environ: Any, start_response: Any) -> Iterable[bytes]:
        """Tell gunicorn so."""
        return ALREADY_HANDLED  # type: ignore[no-any-return]  # gunicorn is not typed


def register(app: Flask) -> None:
    """Relay every path and every method that nothing else answers."""
    config: Settings = app.extensions["settings"]
    known: Providers = app.extensions["providers"]
    app.extensions["upstreams"] = {
        provider.name: Upstream(provider.base_url, config.upstream_timeout_seconds)
        for provider in known.values()
        if provider.open
    }
    app.before_request(_dispatch)


def _dispatch() -> Response | None:
    """Relay what no route answers under exactly this path: WSGI's path is decoded, and `%2F` is no slash."""
    path = _origin_form(_incoming().uri).partition("?")[0]
    return None if request.routing_exception is None and path == request.path else relay()


def relay(*, body: bytes | None = None) -> Response:
    """Relay the present request.

    Args:
        body: what the front has read of it already, all of it.
    """
    incoming = _incoming()
    target = _origin_form(incoming.uri)
    provider = catalogue.mounted(current_app.extensions["providers"], target.partition("?")[0])
    if not provider.open:
        name = variable("providers_file")
        raise UnknownPath(f"The provider {provider.name} is closed: give it a base_url in the file of {name}.")
    upgrade = request.headers.get("Upgrade", "").lower()
    if incoming.method == "CONNECT":
        return envelope(405, "This is no proxy for CONNECT.", type_="invalid_request_error", code="method_not_allowed")
    if "websocket" in upgrade or (incoming.method == "GET" and request.path == "/v1/realtime"):
        message = "WebSocket connections are not relayed: connect to the upstream directly."
        return envelope(501, message, type_="invalid_request_error", code="websocket_not_supported")
    authorization = tokens.relayed(provider, incoming.method, target)
    upstream: Upstream = current_app.extensions["upstreams"][provider.name]
    front: Front = current_app.extensions["front"]
    exchange = Exchange(
        incoming=incoming,
        upstream=upstream,
        target=(upstream.path + target.removeprefix(provider.mount)).encode("latin-1"),
        headers=_headers(incoming, upstream.authority, authorization, provider.auth, read=body is not None),
        body=body,
        draining=lambda: front.draining,
    )
    began = time.monotonic()
    try:
        exchange.run()
    except TimeoutError:
        return _lingering(provider, 504, "The upstream did not answer in time.", "upstream_timeout")
    except (OSError, UpstreamLost) as error:
        logger.warning("relay: %s", type(error.__cause__ or error).__name__)
        return _lingering(provider, 502, "The upstream cannot be reached, or broke off.", "upstream_unreachable")
    access_log.note(
        request.environ,
        "relayed" if exchange.complete else "broken off" if exchange.status else "client gone",
        status=exchange.status,
        seconds=time.monotonic() - began,
    )
    return Relayed()


def _incoming() -> IncomingRequest:
    return request.environ["wsgi.input"].request  # type: ignore[no-any-return]  # see web/incoming.py


def _origin_form(target: str) -> str:
    """The target's bytes from the path on: no part of a target chooses the upstream."""
    if target.startswith("/") or "://" not in target:
        return target
    rest = target.split("://", 1)[1]
    begin = min((rest.find(mark) for mark in "/?#" if mark in rest), default=len(rest))
    return rest[begin:] if rest[begin : begin + 1] == "/" else f"/{rest[begin:]}"


def _headers(
    incoming: IncomingRequest, authority: bytes, authorization: str | None, names: tuple[str, ...], *, read: bool
) -> Headers:
    """What came, without what is the connection's or ours, and with the upstream's host and a framing of our own.

    A key of ours takes the place of the caller's token, wherever that may stand.
    """
    keys = [name.encode() for name in (*auth.NAMES, *names)] if authorization else []
    dropped = [*OURS, *([b"expect"] if read else []), *keys]
    passed = end_to_end(incoming.raw_headers, b"host", *dropped)
    if authorization:
        passed.append((b"Authorization", authorization.encode()))
    framing = [pair for pair in incoming.raw_headers if pair[0].lower() == b"transfer-encoding"]
    return [(b"Host", authority), *passed, *framing]


def _lingering(provider: Provider, status: int, message: str, code: str) -> Response:
    """An error of ours, which a caller may meet while it is still sending its body."""
    response = shapes.shape(envelope(status, message, type_="server_error", code=code), provider.dialect)
    incoming = _incoming()
    if not incoming.body.ended:
        incoming.force_close()
        response.call_on_close(lambda: linger(incoming.unreader.sock))
    return response
