"""Runs the vendors in a thread of this process, and strikes calls with trouble."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from collections.abc import Iterator
from typing import Any

from flask import Flask, Response, request
from werkzeug.serving import make_server

from tests.simulators import anthropic, google, kin
from tests.simulators.vendor import Vendor


class Vendors:
    """The running vendors, by name."""

    def __init__(self, url: str, vendors: dict[str, Vendor]) -> None:
        self.url = url
        self._vendors = vendors

    def __getitem__(self, name: str) -> Vendor:
        return self._vendors[name]

    def names(self) -> list[str]:
        """All of them."""
        return list(self._vendors)


def create_app() -> tuple[Flask, dict[str, Vendor]]:
    """The app that holds all vendors."""
    app = Flask(__name__, static_folder=None)
    vendors: dict[str, Vendor] = {}
    for name, wire in kin.KIN.items():
        vendor = vendors[name] = Vendor(name, kin.answer)
        app.register_blueprint(kin.blueprint(vendor, wire), url_prefix=f"/{name}")
        if wire.google_files:
            app.register_blueprint(google.files(vendor), url_prefix=f"/{name}")
    vendors["gemini"] = Vendor("gemini", google.answer)
    app.register_blueprint(google.files(vendors["gemini"]), url_prefix="/gemini")
    app.register_blueprint(google.blueprint(vendors["gemini"]), url_prefix="/gemini")
    vendors["gemini-inline"] = Vendor("gemini-inline", google.answer)
    app.register_blueprint(google.blueprint(vendors["gemini-inline"]), url_prefix="/gemini-inline")
    vendors["anthropic"] = Vendor("anthropic", anthropic.answer)
    app.register_blueprint(anthropic.blueprint(vendors["anthropic"]), url_prefix="/anthropic")

    def struck(when: str) -> str:
        """The trouble that this call is to meet, once."""
        vendor = vendors.get(request.path.split("/")[1])
        if vendor is None:
            return ""
        call = f"{request.method} {request.path}"
        for entry in vendor.trouble:
            if entry[0] in call and entry[1].startswith(when):
                vendor.trouble.remove(entry)
                return entry[1]
        return ""

    @app.before_request
    def _before() -> Response | None:
        if vendor := vendors.get(request.path.split("/")[1]):
            headers = {k.lower(): v for k, v in request.headers.items()}
            vendor.seen.append((request.method, request.path, request.query_string.decode(), headers))
        if trouble := struck("before"):
            request.get_data()
            if trouble == "before-cut":
                return _cut()
            return Response('{"error": {"message": "not now"}}', int(trouble[-3:]), mimetype="application/json")
        return None

    @app.after_request
    def _after(response: Response) -> Response:
        return _cut() if struck("after") else response

    return app, vendors


def _cut() -> Response:
    """The answer is lost."""
    sock: Any = request.environ["werkzeug.socket"]
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
    return Response(status=500)


@contextlib.contextmanager
def serve() -> Iterator[Vendors]:
    """The vendors for one `with`."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    app, vendors = create_app()
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, name="vendors", daemon=True)
    thread.start()
    try:
        yield Vendors(f"http://127.0.0.1:{server.server_port}", vendors)
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()
