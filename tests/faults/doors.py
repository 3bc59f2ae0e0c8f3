"""Hooks on the doors to the world: to Redis (ours and kombu's) and to the upstream.

They tell `passages` of each step before and after it; the project itself knows nothing of them. A door can also
lose an answer: the step is done, and whoever asked is told that the store is away.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import redis
from kombu.transport.redis import Channel

from tasks import connections, settings, store
from tasks.errors import StoreUnavailable
from tasks.providers import http
from tests.faults import hasty, situations
from tests.faults.passages import DIRECTORY, READS, is_of_interest, passing
from tests.faults.situations import Subject

#: Argument of a script at which its request's id stands.
FIRST_REQUEST = {"settle": 2, "requeue": 4}


def install() -> None:
    """Put the hooks in; once for each process."""
    hasty.install()
    looking = redis.Redis.from_url(settings.settings().redis)  # a door of our own, to look at the situation
    _scripts(looking)
    _commands(looking)
    _publications(looking)
    _calls(looking)


def _passing(when: str, step: str, about: Subject | None, situation: Callable[[], str]) -> None:
    if is_of_interest(when, step):
        found = situation()
        passing(when, f"{step} in {found}" if found else step, about[1] if about else "")


def _nowhere() -> str:
    return ""


@contextlib.contextmanager
def _around(looking: Any, step: str, about: Subject | None = None) -> Iterator[None]:
    about = about or situations.subject()
    situation = functools.partial(situations.situation, looking, about)
    _passing("before", step, about, situation)
    yield
    _passing("after", step, about, situation)


def _scripts(looking: Any) -> None:
    run = store.run

    def hooked(name: str, *args: Any) -> Any:
        if name == "lease":
            return _lease(args)
        if name == "claim":
            with _at_queue(looking, args[0]):
                return run(name, *args)
        if name == "run":
            return _run(args)
        step, about = name, None
        if name == "advance":
            step = f"advance {args[2]}>{args[3]}"
        elif name in FIRST_REQUEST and situations.subject() is None:
            about = ("request", str(args[FIRST_REQUEST[name]]))
        with _around(looking, step, about):
            answer = run(name, *args)
        if _is_lost(name):
            raise StoreUnavailable("the answer was lost", retry_after_seconds=1)
        return answer

    def _lease(args: tuple[Any, ...]) -> Any:
        batch_id, states = args[0], args[3:]
        if not states:
            with _renewal():
                return run("lease", *args)
        if not situations.can_be_taken(looking, batch_id, states):
            return run("lease", *args)
        with _around(looking, "lease", ("batch", batch_id)):
            taken = run("lease", *args)
        if len(taken) > 1:
            situations.work_on(("batch", batch_id))
        return taken

    def _run(args: tuple[Any, ...]) -> Any:
        if args[3] == "renew":
            with _renewal():
                return run("run", *args)
        about = ("request", args[0])
        with _around(looking, "run", about):
            taken = run("run", *args)
        if taken:
            situations.work_on(about)
        return taken

    store.run = hooked


@contextlib.contextmanager
def _renewal() -> Iterator[None]:
    """A lease is renewed beside the step that it is for, in whatever situation that takes so long."""
    _passing("before", "renewal", None, _nowhere)
    yield
    _passing("after", "renewal", None, _nowhere)


@contextlib.contextmanager
def _at_queue(looking: Any, group_id: str) -> Iterator[None]:
    situation = situations.of_queue(looking, group_id)  # after it nothing is left there
    _passing("before", "claim", None, lambda: situation)
    yield
    _passing("after", "claim", None, lambda: situation)


def _is_lost(name: str) -> bool:
    """Whether the answer of this script is to be lost; once for each time that it is asked for."""
    try:
        (Path(os.environ[DIRECTORY]) / f"lose-{name}").unlink()
    except FileNotFoundError:
        return False
    return True


def _commands(looking: Any) -> None:
    connect = connections.connect

    def hooked_connect(config: Any, **options: Any) -> Any:
        client: Any = connect(config, **options)
        execute = client.execute_command

        def execute_command(*args: Any, **options: Any) -> Any:
            if args[0] in {"EVALSHA", "SCRIPT LOAD"}:  # seen by its name above
                return execute(*args, **options)
            with _commanded(looking, _command(args)):
                return execute(*args, **options)

        def pipeline(*args: Any, **options: Any) -> Any:
            made = client.__class__.pipeline(client, *args, **options)
            execute_all = made.execute

            def hooked() -> Any:
                if not made.command_stack:
                    return execute_all()
                with _commanded(looking, f"pipeline of {_command(made.command_stack[0][0])}"):
                    return execute_all()

            made.execute = hooked
            return made

        client.execute_command, client.pipeline = execute_command, pipeline
        return client

    connections.connect = hooked_connect


@contextlib.contextmanager
def _commanded(looking: Any, step: str) -> Iterator[None]:
    if step.startswith(READS):
        _passing("before", step, None, _nowhere)
        yield
    else:
        with _around(looking, step):
            yield


def _command(args: tuple[Any, ...]) -> str:
    """A Redis command by its name and the kind of key that it begins with."""
    key = args[1] if len(args) > 1 and isinstance(args[1], str) else ""
    kind = re.sub(r"-?[0-9a-f]{32}$", "", key.removeprefix(store.PREFIX)).split(":")[0]
    return f"{args[0]} {kind}".strip()


def _publications(looking: Any) -> None:
    """What Celery publishes goes to Redis by a connection of kombu's."""
    door: Any = Channel
    put = door._put

    def hooked(channel: Any, queue: str, message: dict[str, Any], **options: Any) -> Any:
        with _around(looking, f"publish {message['headers']['task']}"):
            return put(channel, queue, message, **options)

    door._put = hooked


def _calls(looking: Any) -> None:
    call = http.call

    @contextlib.contextmanager
    def hooked(method: str, path: str, **options: Any) -> Iterator[Any]:
        step = f"{method} {re.sub(r'/(batch|file)[_-][^/]+', '/{id}', path)}"
        about = situations.subject()
        situation = functools.partial(situations.situation, looking, about)
        _passing("before", step, about, situation)
        with call(method, path, **options) as response:
            # Its effect is there, its answer has not been read.
            _passing("after", step, about, situation)
            yield response

    http.call = hooked
