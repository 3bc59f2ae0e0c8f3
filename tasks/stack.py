"""The processes that make up llm-proxy, and `up`, which runs them all in one terminal.

The commands stand here once; Procfile and docker-compose.yml repeat them, and a test compares.
"""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from cryptography.fernet import Fernet

from tasks import access, embedded_redis, vault
from tasks.errors import SettingsError
from tasks.providers import catalogue
from tasks.settings import Settings, settings
from tasks.supervisor import Program, Supervisor

BIN = Path(sys.executable).parent
FRONT = Path(__file__).parents[1] / "web" / "gunicorn.conf.py"

#: One Celery worker process for each lane, so that none starves another: small and punctual
#: control tasks, transfers that read and write whole files, synchronous calls that take minutes. A worker takes more
#: tasks than it serves at once, so that none waits unseen behind another caller's: see turns.py.
LANES = {"control": ("collect,control", 500), "transfer": ("submit,deliver", 500), "sync": ("sync", 200)}


def web() -> list[str]:
    """The front; its configuration lies beside this package, in a checkout as where pip has put it."""
    return ["gunicorn", "--config", os.path.relpath(FRONT), "web.app:create_app()"]


def worker(lane: str) -> list[str]:
    """One lane's Celery worker."""
    queues, concurrency = LANES[lane]
    return [
        "celery", "--quiet", "--app", "tasks", "worker", "--pool", "gevent", "--concurrency", str(concurrency),
        "--queues", queues, "--hostname", f"{lane}@%h", "--loglevel", settings().log_level,
        "--without-gossip", "--without-mingle", "--heartbeat-interval", "10",
    ]  # fmt: skip


def beat() -> list[str]:
    """The clock. No schedule file: two beats would corrupt one, and two beats do no harm otherwise."""
    return [
        "celery",
        "--quiet",
        "--app",
        "tasks",
        "beat",
        "--scheduler",
        "celery.beat:Scheduler",
        "--loglevel",
        "WARNING",
    ]


def run_workers() -> int:
    """All lanes, as one process type: what `python -m tasks worker` runs.

    Raises:
        SettingsError: there is no vault key, or the file of providers or of access tokens is wrong.
    """
    config = settings()
    vault.build(config)
    access.tokens(config)
    catalogue.build(config)
    return Supervisor([_program(f"worker-{lane}", worker(lane), stop_seconds=20) for lane in LANES]).run()


def run_all() -> int:
    """Everything, with an embedded Redis unless REDIS_URL names one: what `make run` runs.

    Raises:
        SettingsError: the port is taken, the data directory is not ours, there is no Redis.
    """
    config = settings()
    with contextlib.ExitStack() as stack:
        programs = []
        _need_free_port(config)
        if config.embedded:
            stack.enter_context(_own_data_dir(config))
            _generate_vault_key(config)
            programs.append(
                Program(
                    "redis", embedded_redis.command(config), ready=lambda: embedded_redis.ready(config), stop_seconds=5
                )
            )
        vault.build(config)  # refuses to start without keys, before anything runs
        catalogue.build(config)
        access.tokens(config)
        programs += [_program(f"worker-{lane}", worker(lane), stop_seconds=7) for lane in LANES]
        programs.append(_program("beat", beat(), stop_seconds=3))
        programs.append(_program("web", web(), stop_seconds=22, ready=lambda: _serves(config)))
        url = f"http://{config.address}"
        started = f"llm-proxy serves on {url}/v1 for {config.upstream}; dashboard on {url}/dashboard; Ctrl-C stops it"
        return Supervisor(programs, started=started).run()


def _program(name: str, command: list[str], **options: object) -> Program:
    return Program(name, [str(BIN / command[0]), *command[1:]], **options)  # type: ignore[arg-type]  # passed on as they are


def _need_free_port(config: Settings) -> None:
    family = socket.AF_INET6 if ":" in config.bind else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((config.bind, config.port))
        except OSError as error:
            raise SettingsError(
                f"cannot listen on {config.address} ({error.strerror}): choose another port with PORT=…"
            ) from None


def _serves(config: Settings) -> bool:
    connection = http.client.HTTPConnection(config.bind, config.port, timeout=1)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


@contextlib.contextmanager
def _own_data_dir(config: Settings) -> Iterator[None]:
    """Make the data directory and hold it: two stacks must not share one."""
    try:
        config.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock: IO[str] = (config.data_dir / "lock").open("w")
    except OSError as error:
        raise SettingsError(
            f"cannot write to the data directory {config.data_dir} ({error.strerror}): set LLM_PROXY_DATA_DIR"
        ) from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise SettingsError(
                f"another llm-proxy uses the data directory {config.data_dir}: stop it or set LLM_PROXY_DATA_DIR"
            ) from None
        yield


def _generate_vault_key(config: Settings) -> None:
    path = config.data_dir / "vault.key"
    if config.vault_keys or path.exists():
        return
    # Whole or not at all: a half-written key would shut everything out for ever.
    draft = path.with_suffix(".draft")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(Fernet.generate_key() + b"\n")
        file.flush()
        os.fsync(file.fileno())
    draft.rename(path)
