"""Everything that is not batched goes to the upstream as it came and comes back as it is.

Built on `http.client`: requests and urllib3 rewrite paths, keep cookies and decode bodies. Both
bodies are streamed, one piece at a time.
"""

from __future__ import annotations

import contextlib
import errno
import http.client
import logging
import select
import ssl
from collections import deque
from collections.abc import Iterable, Iterator
from urllib.parse import urlsplit

from flask import Flask, Response, current_app, request
from werkzeug.datastructures import Headers
from werkzeug.routing import Rule

from tasks.settings import Settings
from web.errors import envelope

logger = logging.getLogger(__name__)

CONNECT_SECONDS = 10.0
PIECE_BYTES = 64 * 1024
IDLE_CONNECTIONS = 32
#: Of this connection only (RFC 9110 §7.6.1), or ours.
HOP_BY_HOP = frozenset({
    "connection", "keep-alive", "proxy-connection", "proxy-authenticate", "proxy-authorization",
    "te", "trailer", "transfer-encoding", "upgrade", "host", "expect",
})  # fmt: skip
OURS = frozenset({"idempotency-key", "x-batch-mode", "x-batch-max-wait"})

_idle: deque[http.client.HTTPConnection] = deque()


def register(app: Flask) -> None:
    """Relay every path and every method that nothing else answers."""
    for rule in ("/", "/<path:_path>"):
        app.url_map.add(Rule(rule, endpoint="relay"))  # without a list of methods: any, known or not
    app.view_functions["relay"] = relay


def relay(_path: str = "", *, body: bytes | None = None) -> Response:
    """Relay the present request.

    Args:
        body: what the front has read of it already, all of it.
    """
    target: str = request.environ.get("RAW_URI") or request.full_path.removesuffix("?")
    if not target.startswith("/") or target.startswith("//"):
        return envelope(400, "The request target must be a path.", type_="invalid_request_error", code=None)
    connection = _connect()
    try:
        _send(connection, target, body)
        answer = connection.getresponse()
    except TimeoutError:
        connection.close()
        return envelope(504, "The upstream did not answer in time.", type_="server_error", code="upstream_timeout")
    except (OSError, http.client.HTTPException) as error:
        connection.close()
        logger.warning("relay: %s", type(error).__name__)
        return envelope(502, "The upstream cannot be reached.", type_="server_error", code="upstream_unreachable")
    named = {name.strip().lower() for name in (answer.headers.get("Connection") or "").split(",")}
    headers = Headers([(k, v) for k, v in answer.headers.items() if k.lower() not in HOP_BY_HOP | named])
    response = Response(_pieces(connection, answer), status=f"{answer.status} {answer.reason}", direct_passthrough=True)
    response.headers = headers
    response.automatically_set_content_length = False
    return response


def _connect() -> http.client.HTTPConnection:
    while _idle:
        connection = _idle.pop()
        # Readable while idle means closed by the upstream, or out of step: either way not to be used.
        if connection.sock is not None and not select.select([connection.sock], [], [], 0)[0]:
            return connection
        connection.close()
    config: Settings = current_app.extensions["settings"]
    upstream = urlsplit(config.upstream)
    host = upstream.hostname or ""
    if upstream.scheme == "https":
        return http.client.HTTPSConnection(
            host, upstream.port, timeout=config.upstream_timeout_seconds, context=ssl.create_default_context()
        )
    return http.client.HTTPConnection(host, upstream.port, timeout=config.upstream_timeout_seconds)


def _send(connection: http.client.HTTPConnection, target: str, read: bytes | None) -> None:
    if connection.sock is None:
        patience, connection.timeout = connection.timeout, CONNECT_SECONDS
        connection.connect()
        connection.timeout = patience
        connection.sock.settimeout(patience)  # type: ignore[attr-defined]  # typeshed says None before connect()
    connection.putrequest(request.method, target, skip_accept_encoding=True)
    named = {name.strip().lower() for name in request.headers.get("Connection", "").split(",")}
    for name, value in request.headers.items():
        if name.lower() not in HOP_BY_HOP | OURS | named and name.lower() != "content-length":
            connection.putheader(name, value)
    chunked = "chunked" in request.headers.get("Transfer-Encoding", "").lower()
    if chunked:
        connection.putheader("Transfer-Encoding", "chunked")
    elif "Content-Length" in request.headers:
        connection.putheader("Content-Length", request.headers["Content-Length"])
    # An upstream may answer and close before it has read a body that it refuses; its answer is what counts.
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        connection.endheaders(_body(read), encode_chunked=chunked)


def _body(read: bytes | None) -> Iterable[bytes] | None:
    if "Content-Length" not in request.headers and "Transfer-Encoding" not in request.headers:
        return None
    if read is not None:
        return iter([read] if read else [])
    return iter(_read, b"")


def _read() -> bytes:
    return request.environ["wsgi.input"].read(PIECE_BYTES)  # type: ignore[no-any-return]  # WSGI says bytes


def _pieces(connection: http.client.HTTPConnection, answer: http.client.HTTPResponse) -> Iterator[bytes]:
    """The answer's body as it comes; a broken one breaks the caller's connection, too."""
    complete = False
    try:
        while piece := answer.read1(PIECE_BYTES):
            yield piece
        if answer.length:  # http.client ends a short body without an error
            raise BrokenPipeError(errno.EPIPE, "the upstream cut the answer")
        complete = True
    except http.client.IncompleteRead as error:
        raise BrokenPipeError(errno.EPIPE, "the upstream cut the answer") from error
    finally:
        answer.close()  # read1 leaves it open at the end, and the connection would refuse the next request
        if complete and not answer.will_close and len(_idle) < IDLE_CONNECTIONS:
            _idle.append(connection)
        else:
            connection.close()
