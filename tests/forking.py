"""`python -m tests.forking`: forks a process for each line of standard input; see `nursery`.

A line is JSON, [command, environment, log file]; the answer is a line with the child's pid. Nothing of the project is
imported here: a child reads its settings from its own environment.
"""

from gevent import monkey

monkey.patch_all()  # as workers of the pipeline and of the front do, and before anything else is imported

import gc  # noqa: E402 - patched first
import importlib  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import random  # noqa: E402
import signal  # noqa: E402
import sys  # noqa: E402

import coverage  # noqa: E402
import gevent.os  # noqa: E402
from celery.__main__ import main as celery  # noqa: E402
from gunicorn.app.wsgiapp import run as gunicorn  # noqa: E402

from tests import nursery  # noqa: E402

#: What is forked here, by the first word of its command.
PROGRAMS = {"celery": celery, "gunicorn": gunicorn}
#: What these import of others, and what takes nearly all of their start.
OTHERS = (
    "celery.apps.beat", "celery.apps.worker", "celery.backends.redis", "celery.bin.celery",
    "celery.concurrency.gevent", "celery.fixups.django", "celery.worker.consumer", "cryptography.fernet",
    "cryptography.hazmat.primitives.ciphers.aead", "flask", "genai_prices", "gunicorn.glogging",
    "gunicorn.workers.ggevent", "h11", "kombu.transport.redis", "msgspec", "prometheus_client.core", "redis",
    "requests", "standardwebhooks",
)  # fmt: skip

_set_signal = monkey.get_original("signal", "signal")


def serve() -> None:
    """Fork until the input ends."""
    for name in OTHERS:
        importlib.import_module(name)
    gc.freeze()  # a child that looked for garbage among all this would copy it
    _set_signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps the children
    while line := sys.stdin.buffer.readline():
        command, environment, log = json.loads(line)
        child = gevent.os.fork_gevent()
        if child == 0:
            become(command, environment, log)
        sys.stdout.write(f"{child}\n")
        sys.stdout.flush()


def become(command: list[str], environment: dict[str, str], log: str) -> None:
    """Be the program, in a session of its own."""
    os.setsid()
    random.seed()
    _set_signal(signal.SIGCHLD, signal.SIG_DFL)
    os.environ.clear()
    os.environ.update(environment)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for number in (1, 2):
        os.dup2(output, number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    if nursery.COUNTED in environment:
        coverage.process_startup()
    sys.argv = command
    sys.exit(PROGRAMS[command[0]]())


if __name__ == "__main__":
    serve()
