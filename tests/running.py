"""Runs the project as its users do: real processes, on loopback and free ports, in directories of their own."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import redis
from cryptography.fernet import Fernet

from tasks import embedded_redis, stack
from tasks.settings import Settings
from tests import nursery
from tests.ports import free_port

ROOT = Path(__file__).parents[1]
VAULT_KEY = Fernet.generate_key().decode()
START_SECONDS = 60.0
COUNTED_SECONDS = 10.0


def until(condition: Callable[[], object], what: str, seconds: float = 30.0) -> None:
    """Wait until a condition holds: for states of other processes, which offer no event.

    Looking takes a fifth of the time at most, as it keeps those from their work who are waited for.
    """
    deadline = time.monotonic() + seconds
    while True:
        began = time.monotonic()
        if condition():
            return
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:.0f} s: {what}")
        time.sleep(max(0.02, 4 * (time.monotonic() - began)))


def environment(**variables: str) -> dict[str, str]:
    """The environment of a child: ours without settings, and these."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("LLM_PROXY_") and k not in {"PORT", "REDIS_URL"}}
    kept["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}"
    return {**kept, "PYTHONUNBUFFERED": "1", **variables}


@dataclass
class Process:
    """A child whose output goes to a file that a failing test can show."""

    name: str
    popen: subprocess.Popen[bytes]
    log: Path
    offset: int = 0  # where its own output begins in a log that an earlier one has written to

    def kill(self) -> None:
        """kill -9, the whole session."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.popen.pid, signal.SIGKILL)
        self.popen.wait()

    def stop(self, number: signal.Signals = signal.SIGTERM, seconds: float = 25.0) -> float:
        """Ask it to end; returns how long it took."""
        began = time.monotonic()
        if self.popen.poll() is None:
            self.popen.send_signal(number)
        try:
            self.popen.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self.name} did not stop in {seconds} s:\n{self.text()[-2000:]}") from None
        return time.monotonic() - began

    def children(self) -> dict[str, int]:
        """Pids of a supervisor's programs by a word of their command line."""
        words = ("redis-server", "control@", "transfer@", "sync@", "beat", "gunicorn")
        found: dict[str, int] = {}
        with contextlib.suppress(FileNotFoundError):
            for pid in Path(f"/proc/{self.popen.pid}/task/{self.popen.pid}/children").read_text().split():
                args = Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
                found |= {word: int(pid) for word in words if word in args}
        return found

    def text(self) -> str:
        """What it has printed."""
        return self.log.read_text(errors="replace")


def start(
    name: str, command: list[str], variables: Mapping[str, str], log_dir: Path, directory: Path = ROOT
) -> Process:
    """Start a command of the project in the checkout, or in another tree."""
    log = log_dir / f"{name}.log"
    offset = len(log.read_text(errors="replace")) if log.exists() else 0
    with log.open("ab") as output:
        popen = subprocess.Popen(
            command,
            cwd=directory,
            env=environment(**variables),
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return Process(name, popen, log, offset)


Launch = Callable[[str, list[str], Mapping[str, str], Path], Process]


def quick(name: str, command: list[str], variables: Mapping[str, str], log_dir: Path) -> Process:
    """`start`, but forked."""
    log = log_dir / f"{name}.log"
    offset = len(log.read_text(errors="replace")) if log.exists() else 0
    log.touch()
    child = cast("subprocess.Popen[bytes]", nursery.fork(command, environment(**variables), log))
    return Process(name, child, log, offset)


@dataclass
class RedisServer:
    """A redis-server of the tests, durable as every shipped one."""

    directory: Path
    process: Process | None = None
    url: str = field(init=False)

    def __post_init__(self) -> None:
        self.config = Settings(data_dir=self.directory)
        self.url = f"unix://{self.config.socket_path}"

    def start(self) -> None:
        """Start it, or start it again on its data."""
        self.process = start("redis", embedded_redis.command(self.config), {}, self.directory)
        until(lambda: embedded_redis.ready(self.config), "Redis is ready")

    def kill(self) -> None:
        """kill -9."""
        assert self.process
        self.process.kill()

    @property
    def client(self) -> Any:
        """A client of the test's own; Any as in tasks.connections."""
        return redis.Redis(unix_socket_path=str(self.config.socket_path))


@contextlib.contextmanager
def short_directory() -> Iterator[Path]:
    """A temporary directory whose path leaves room for a socket's name."""
    with tempfile.TemporaryDirectory(prefix="lp-", dir="/tmp") as name:
        yield Path(name)


@contextlib.contextmanager
def redis_server() -> Iterator[RedisServer]:
    """A Redis for one `with`."""
    with short_directory() as directory:
        server = RedisServer(directory)
        server.start()
        try:
            yield server
        finally:
            server.kill()


@dataclass
class Stack:
    """Web, workers and beat on a Redis; each can be killed and started again alone."""

    variables: dict[str, str]
    directory: Path
    port: int
    app: str = "tasks"
    wsgi: str = "web.app:create_app()"
    extra: tuple[str, ...] = ()  # names of further beats, and of workers that serve every queue
    launch: Launch = quick
    processes: dict[str, Process] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """The front's address."""
        return f"http://127.0.0.1:{self.port}"

    def start(self, *names: str, wait: bool = True) -> None:
        """Start processes by name (all of them without names) and wait until they work, unless told not to."""
        commands = {f"worker-{lane}": stack.worker(lane) for lane in stack.LANES}
        for name in self.extra:
            commands[name] = stack.beat() if name.startswith("beat") else _worker_of_all(name)
        commands |= {"beat": stack.beat(), "web": stack.web()}
        other = {"tasks": self.app, "web.app:create_app()": self.wsgi}
        commands = {name: [other.get(word, word) for word in command] for name, command in commands.items()}
        for name in names or commands:
            self.processes[name] = self.launch(name, commands[name], self.variables, self.directory)
        for name in (names or commands) if wait else ():
            self._wait_for(name)

    def workers_of_web(self) -> list[int]:
        """Pids of the gunicorn workers."""
        arbiter = self.processes["web"].popen.pid
        return [int(pid) for pid in Path(f"/proc/{arbiter}/task/{arbiter}/children").read_text().split()]

    def kill_worker_of_web(self) -> None:
        """kill -9 the gunicorn workers; gunicorn starts others."""
        for pid in self.workers_of_web():
            os.kill(pid, signal.SIGKILL)

    def dead(self) -> list[str]:
        """Processes that have ended."""
        return [name for name, process in self.processes.items() if process.popen.poll() is not None]

    def _wait_for(self, name: str) -> None:
        process = self.processes[name]
        if name == "web":
            until(lambda: self.listens() and self.workers_of_web(), "the front listens", START_SECONDS)
        elif name.startswith("worker"):
            until(
                lambda: re.search(r"@\S+ ready\.", process.text()[process.offset :]), f"{name} is ready", START_SECONDS
            )

    def listens(self) -> bool:
        """Whether somebody accepts connections on the front's port."""
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
            return True
        return False

    def kill(self, *names: str) -> None:
        """kill -9 processes by name."""
        for name in names:
            self.processes.pop(name).kill()

    def stop(self) -> None:
        """End everything; where lines are counted, by asking: what is killed has counted for nothing."""
        if nursery.COUNTED in os.environ:
            for process in self.processes.values():
                process.popen.terminate()
            for process in self.processes.values():
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.popen.wait(COUNTED_SECONDS)
        self.kill(*list(self.processes))

    def logs(self) -> str:
        """What all of them have printed."""
        return "\n".join(path.read_text(errors="replace") for path in sorted(self.directory.glob("*.log")))


def _worker_of_all(name: str) -> list[str]:
    """A worker that serves every queue."""
    queues = ",".join(queues for queues, _ in stack.LANES.values())
    other = {stack.LANES["control"][0]: queues, "control@%h": f"{name}@%h"}
    return [other.get(word, word) for word in stack.worker("control")]


@contextlib.contextmanager
def running_stack(
    redis_url: str,
    upstream: str,
    *,
    app: str = Stack.app,
    wsgi: str = Stack.wsgi,
    extra: tuple[str, ...] = (),
    only: tuple[str, ...] = (),
    launch: Launch = quick,
    **variables: str,
) -> Iterator[Stack]:
    """A stack for one `with`, or some of its processes; `app` and `wsgi` put something around the project's own."""
    port = free_port()
    with short_directory() as directory:
        settings = {
            "PORT": str(port),
            "REDIS_URL": redis_url,
            "LLM_PROXY_UPSTREAM": upstream,
            "LLM_PROXY_VAULT_KEYS": VAULT_KEY,
            "LLM_PROXY_MAX_HOLD_SECONDS": "0.3",
            "LLM_PROXY_POLL_MIN_SECONDS": "0.2",
            **variables,
        }
        made = Stack(settings, directory, port, app, wsgi, extra, launch)
        try:
            made.start(*only)
            yield made
        finally:
            made.stop()
