"""Hooks on the two doors: they note each step, and kill the process at the one that is armed.

A point is `<before|after> <step>`: `before settle` (a script), `after GET body` (another command on Redis),
`after POST /v1/batches` (a call to the upstream). A point is armed by writing it to a file; the process
that takes the file away dies, so it happens once.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tasks import connections, store
from tasks.providers import http
from tests.faults import hasty

DIRECTORY = "LP_FAULTS_DIR"


def install() -> None:
    """Put the hooks in; once for each process."""
    hasty.install()
    _redis_door()
    _upstream_door()


def passing(point: str) -> None:
    """Note a point; die here if it is armed."""
    directory = Path(os.environ[DIRECTORY])
    with (directory / "seen").open("a") as file:
        file.write(point + "\n")
    armed = directory / "armed"
    with contextlib.suppress(FileNotFoundError):
        if armed.read_text() == point:
            armed.rename(directory / "fired")
            os.kill(os.getpid(), signal.SIGKILL)


def _redis_door() -> None:
    connect, run = connections.connect, store.run

    def hooked_connect(config: Any, **options: Any) -> Any:
        client: Any = connect(config, **options)
        execute = client.execute_command

        def execute_command(*args: Any, **options: Any) -> Any:
            if args[0] in {"EVALSHA", "SCRIPT LOAD"}:  # seen by its name below
                return execute(*args, **options)
            with _around(_step(args)):
                return execute(*args, **options)

        def pipeline(*args: Any, **options: Any) -> Any:
            made = client.__class__.pipeline(client, *args, **options)
            execute_all = made.execute

            def hooked() -> Any:
                if not made.command_stack:
                    return execute_all()
                with _around(f"pipeline of {_step(made.command_stack[0][0])}"):
                    return execute_all()

            made.execute = hooked
            return made

        client.execute_command, client.pipeline = execute_command, pipeline
        return client

    def hooked_run(name: str, *args: Any) -> Any:
        with _around(f"{name} to {args[3]}" if name == "advance" else name):
            return run(name, *args)

    connections.connect, store.run = hooked_connect, hooked_run


@contextlib.contextmanager
def _around(step: str) -> Iterator[None]:
    passing(f"before {step}")
    yield
    passing(f"after {step}")


def _step(args: tuple[Any, ...]) -> str:
    """A Redis command by its name and the kind of key that it begins with."""
    key = args[1] if len(args) > 1 and isinstance(args[1], str) else ""
    kind = re.sub(r"-?[0-9a-f]{32}$", "", key.removeprefix(store.PREFIX)).split(":")[0]
    return f"{args[0]} {kind}".strip()


def _upstream_door() -> None:
    call = http.call

    @contextlib.contextmanager
    def hooked(method: str, path: str, **options: Any) -> Iterator[Any]:
        step = f"{method} {re.sub(r'/(batch|file)[_-][^/]+', '/{id}', path)}"
        passing(f"before {step}")
        with call(method, path, **options) as response:
            passing(f"after {step}")  # its effect is there, its answer has not been read
            yield response

    http.call = hooked
