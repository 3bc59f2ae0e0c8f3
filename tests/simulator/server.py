"""Runs a simulator: in a thread of this process on a free port of loopback (`serve`), or until stopped (`Server`)."""

from __future__ import annotations

import json
import queue
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

from gevent import get_hub
from gevent.event import Event
from gevent.monkey import is_module_patched
from gevent.pool import Pool
from gevent.pywsgi import WSGIHandler, WSGIServer

from tests.simulator.app import create_app
from tests.simulator.config import Config

START_SECONDS = 10
BACKLOG = 4096
#: Statistics wait for the batches that have come to their end; large ones take a while.
CONTROL_SECONDS = 600


class Handler(WSGIHandler):
    """Shows the app what WSGI hides: the connection (to cut it), the headers as they came, the raw target."""

    def handle(self) -> None:
        # The head and the body of an answer are two writes; Nagle would hold the second one back for 40 ms.
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self.rfile:  # else it is closed by the garbage collector, when the loop that it needs may be gone
            super().handle()

    def get_environ(self) -> dict[str, Any]:
        environ: dict[str, Any] = super().get_environ()
        environ["simulator.socket"] = self.socket
        environ["simulator.headers"] = self.headers.items()
        environ["simulator.target"] = self.path
        return environ


class Simulator:
    """A running simulator as a test sees it; the control API as methods."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.base_url = f"{url}/v1"
        # Loopback never goes through a proxy that the environment names.
        self._direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def configure(self, **patch: Any) -> dict[str, Any]:
        """Replace fields of the configuration; the result is all of it."""
        return cast("dict[str, Any]", self._call("config", patch))

    def stats(self) -> dict[str, Any]:
        """Batches, files, calls and the ledger."""
        return cast("dict[str, Any]", self._call("stats"))

    def log(self) -> list[dict[str, Any]]:
        """The latest calls under /v1, oldest first."""
        return cast("list[dict[str, Any]]", self._call("log")["log"])

    def lines(self, batch_id: str) -> list[bytes]:
        """The lines of a batch's input file exactly as received."""
        return self._read(f"lines/{batch_id}").removesuffix(b"\n").split(b"\n")

    def reset(self) -> None:
        """Back to the moment of the start."""
        self._call("reset", {})

    def advance(self, seconds: float) -> None:
        """Move the clock forward."""
        self._call("advance", {"seconds": seconds})

    def finish(self) -> int:
        """End all waiting, stuck batches included."""
        return int(self._call("finish", {})["finished"])

    def _call(self, name: str, body: dict[str, Any] | None = None) -> Any:
        return json.loads(self._read(name, None if body is None else json.dumps(body).encode()))

    def _read(self, name: str, body: bytes | None = None) -> bytes:
        request = urllib.request.Request(f"{self.url}/_control/{name}", body)  # noqa: S310 - always our own http
        try:
            with self._direct.open(request, timeout=CONTROL_SECONDS) as answer:
                return cast("bytes", answer.read())
        except urllib.error.HTTPError as error:
            with error:
                raise ValueError(f"{name}: {error.read().decode()}") from error


class Server:
    """The HTTP server of one simulator; belongs to the thread that makes it."""

    def __init__(self, config: Config, host: str, port: int) -> None:
        self._server = WSGIServer(
            (host, port), create_app(config), backlog=BACKLOG, spawn=Pool(), log=None, handler_class=Handler
        )
        self._stopped = Event()

    def run(self, started: Callable[[str], None]) -> None:
        """Serve until `stop`; reports its URL as soon as it accepts connections."""
        self._server.start()
        try:
            started(f"http://{self._server.server_host}:{self._server.server_port}")
            self._stopped.wait()
        finally:
            self._server.stop(timeout=0)

    def stop(self) -> None:
        """End `run`, open connections included; from the server's own thread."""
        self._stopped.set()


@contextmanager
def serve(*, host: str = "127.0.0.1", **config: Any) -> Iterator[Simulator]:
    """A simulator in a thread on a free port; keyword arguments are fields of Config."""
    settings = Config().merged(config)
    ready: queue.Queue[tuple[str, Callable[[], object]] | BaseException] = queue.Queue()

    def work() -> None:
        try:
            server = Server(settings, host, 0)
            loop = get_hub().loop
            server.run(lambda url: ready.put((url, lambda: loop.run_callback_threadsafe(server.stop))))
        except BaseException as error:
            ready.put(error)
            raise
        finally:
            if not is_module_patched("threading"):  # else it is everybody's hub
                get_hub().destroy(destroy_loop=True)

    thread = threading.Thread(target=work, name="simulator", daemon=True)
    thread.start()
    begun = ready.get(timeout=START_SECONDS)
    if isinstance(begun, BaseException):
        raise begun
    url, stop = begun
    try:
        yield Simulator(url)
    finally:
        stop()
        thread.join(START_SECONDS)
