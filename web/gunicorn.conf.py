"""gunicorn's settings: server matters only."""

import contextlib
import math
import socket
import sys
from pathlib import Path
from typing import Any

from gunicorn import systemd
from gunicorn.sock import create_sockets

from tasks import log, open_files
from tasks.errors import SettingsError
from tasks.settings import settings
from web import access_log

try:
    _settings = settings()
except SettingsError as wrong:
    sys.exit(f"llm-proxy: {wrong}")  # one sentence; gunicorn would show where the code was

open_files.allow_all()

bind = _settings.address
worker_class = "web.worker.FrontWorker"
workers = _settings.web_processes
# As many as there can be open files: who may wait is decided by the front, and a connection that is not
# accepted would hang, health checks included.
worker_connections = open_files.possible()
backlog = 16_384
#: Where the kernel says how many new connections one socket queues, whatever `backlog` is.
_most_queued = Path("/proc/sys/net/core/somaxconn")
# Longer than the 5 s after which SDKs drop idle connections, so that none is reused while we close it.
keepalive = 10
# 20,000 clients are sent away in some seconds, and a platform kills after 30.
graceful_timeout = 20
timeout = 60
# A request is relayed as it came: any method and long targets. Headers are believed to be nothing but headers.
http_parser = "python"  # the one that web/incoming.py extends
permit_unconventional_http_method = True
limit_request_line = 8190
limit_request_fields = 200
limit_request_field_size = 16_384
forwarded_allow_ips = ""
# Two stacks on one machine would share one control socket.
control_socket_disable = True
loglevel = _settings.log_level.lower()
logconfig_dict = log.configuration(_settings.log_format, _settings.log_level)
accesslog = None
logger_class = "web.access_log.AccessLogger"


def worker_exit(server: Any, worker: Any) -> None:
    """The last lines."""
    access_log.flush()


def on_starting(server: Any) -> None:
    """Listen several times on the one address, until `backlog` connections can be queued.

    When thousands connect at once, who finds the queue full tries again after 1, 3, 7, 15 seconds.
    """
    inherited = server.master_pid or systemd.listen_fds(unset_environment=False)
    if inherited or not hasattr(socket, "SO_REUSEPORT") or not _most_queued.exists():
        return
    for probe in create_sockets(server.cfg, server.log):  # says so and exits when the port is taken
        probe.close()
    # Not as a setting: then each worker would listen for itself, and its queue would die with it.
    server.cfg.set("reuse_port", True)
    times = min(16, math.ceil(backlog / int(_most_queued.read_text())))
    server.LISTENERS = [listener for _ in range(times) for listener in create_sockets(server.cfg, server.log)]
    server.cfg.set("reuse_port", False)


def when_ready(server: Any) -> None:
    """TCP keepalive, inherited by accepted connections: a client that vanished is found in two minutes."""
    for listener in server.LISTENERS:
        with contextlib.suppress(OSError):  # a unix socket has none
            listener.sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            listener.sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, "TCP_KEEPIDLE", 0x10), 60)
            listener.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 15)
            listener.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4)
