"""TCP ports for the servers of the tests."""

from __future__ import annotations

import contextlib
import secrets
import socket
import sys

PORTS = range(15_000, 30_000)  # below those from which kernels serve outgoing connections
_taken: dict[int, int] = {}


def free_port() -> int:
    """A TCP port that is this process's until it ends, whether or not somebody listens on it.

    A port that the kernel chooses (0) may be an outgoing connection's, or another test's, by the time a server starts
    or starts again on it; a caller that tries it meanwhile can even reach itself.
    """
    while True:
        port = secrets.choice(PORTS)
        with contextlib.suppress(OSError), socket.socket() as probe, socket.socket(socket.AF_UNIX) as lock:
            if sys.platform == "linux":  # a name without a file, which goes with its process
                lock.bind(f"\0llm-proxy port {port}")
            probe.bind(("127.0.0.1", port))
            _taken[port] = lock.detach()
            return port
