"""gunicorn's settings: server matters only."""

import contextlib
import resource
import socket
from typing import Any

from tasks.settings import settings

_settings = settings()

# Each held client is an open file, and the usual soft limit is 1,024.
_hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (_hard, _hard))

bind = _settings.address
worker_class = "web.worker.FrontWorker"
workers = _settings.web_processes
# As many as there can be open files: who may wait is decided by the front, and a connection that is not
# accepted would hang, health checks included.
worker_connections = _hard
backlog = 16_384
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
accesslog = None


def when_ready(server: Any) -> None:
    """TCP keepalive, inherited by accepted connections: a client that vanished is found in two minutes."""
    for listener in server.LISTENERS:
        with contextlib.suppress(OSError):  # a unix socket has none
            listener.sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            listener.sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, "TCP_KEEPIDLE", 0x10), 60)
            listener.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 15)
            listener.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4)
