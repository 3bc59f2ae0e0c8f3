"""`python -m tests.faults.forking`: forks a worker for each line of standard input; see `nursery`.

A line is JSON, [command, log file]; the answer is a line with the child's pid.
"""

from gevent import monkey

monkey.patch_all()  # as Celery's command line does for this pool, and before anything else is imported

import json  # noqa: E402 - patched first
import os  # noqa: E402
import random  # noqa: E402
import signal  # noqa: E402
import sys  # noqa: E402

import gevent.os  # noqa: E402
from celery.__main__ import main  # noqa: E402

import tests.faults.worker_app  # noqa: E402, F401 - what the children are made of

_set_signal = monkey.get_original("signal", "signal")


def serve() -> None:
    """Fork until the input ends."""
    _set_signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps the children
    while line := sys.stdin.buffer.readline():
        command, log = json.loads(line)
        child = gevent.os.fork_gevent()
        if child == 0:
            become(command, log)
        sys.stdout.write(f"{child}\n")
        sys.stdout.flush()


def become(command: list[str], log: str) -> None:
    """Be the worker, in a session of its own."""
    os.setsid()
    random.seed()
    _set_signal(signal.SIGCHLD, signal.SIG_DFL)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for number in (1, 2):
        os.dup2(output, number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.argv = command
    sys.exit(main())


if __name__ == "__main__":
    serve()
