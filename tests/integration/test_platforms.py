"""The very commands of the Procfile, as a platform starts them: its variables, a Redis behind TLS, SIGTERM."""

from __future__ import annotations

import contextlib
import json
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
import requests

from tasks import connections
from tasks.settings import Settings
from tests import running
from tests.integration import tls
from tests.ports import free_port
from tests.running import ROOT, until
from tests.simulator.server import Simulator

#: Heroku kills after this time.
STOP_SECONDS = 30.0


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tls.self_signed(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def rediss(redis_server: running.RedisServer, certificate: Path) -> Iterator[str]:
    """URL of a Redis that signs its own certificate."""
    with tls.tunnel(redis_server.config.socket_path, certificate) as port:
        yield f"rediss://:@127.0.0.1:{port}/3"


def platform_environment() -> dict[str, str]:
    """What app.json sets, and the platform generates."""
    declared = json.loads((ROOT / "app.json").read_text())["env"]
    return {name: entry.get("value", "5e" * 32) for name, entry in declared.items()}


def test_the_procfile_serves_as_heroku_starts_it(rediss: str, own_upstream: Simulator, tmp_path: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    variables = {
        **platform_environment(), "DYNO": "web.1", "PORT": str(port), "REDIS_URL": rediss,
        "LLM_PROXY_UPSTREAM": own_upstream.url, "LLM_PROXY_MAX_HOLD_SECONDS": "0.3",
    }  # fmt: skip

    def healthy() -> bool:
        with contextlib.suppress(requests.RequestException):
            return requests.get(f"{url}/healthz", timeout=5).ok and requests.get(f"{url}/readyz", timeout=5).ok
        return False

    lines = (line.split(": ", 1) for line in (ROOT / "Procfile").read_text().splitlines())
    processes = {name: running.start(name, shlex.split(command), variables, tmp_path) for name, command in lines}
    try:
        until(healthy, "it is healthy and ready", 60)
        for mode in ("batch", "sync"):
            answer = requests.post(
                f"{url}/v1/chat/completions",
                json={"model": "m", "messages": [{"role": "user", "content": mode}]},
                headers={"Authorization": "Bearer sk-platform", "X-Batch-Mode": mode},
                timeout=60,
            )
            assert answer.json()["choices"][0]["message"]["content"] == f"echo:{mode}"
            assert answer.headers["x-batch-lane"] == mode
    finally:
        took = {name: process.stop(seconds=STOP_SECONDS) for name, process in processes.items()}
    assert max(took.values()) < STOP_SECONDS


def test_a_certificate_that_nobody_has_signed_is_refused_unless_it_is_trusted_or_not_looked_at(
    rediss: str, certificate: Path
) -> None:
    def pings(url: str, verify: str) -> bool:
        return bool(connections.connect(Settings(redis_url=url, redis_tls_verify=verify)).ping())

    with pytest.raises(redis.ConnectionError, match="CERTIFICATE_VERIFY_FAILED"):
        pings(rediss, "required")
    assert pings(f"{rediss}?ssl_ca_certs={certificate}", "required")
    assert pings(rediss, "none")


def test_celery_takes_the_authority_that_the_url_names(rediss: str, certificate: Path) -> None:
    """In a process of its own: Celery reads the settings once."""
    script = "from tasks.celery import app; app.connection_for_write().default_channel.client.ping()"
    variables = {
        "REDIS_URL": f"{rediss}?ssl_ca_certs={certificate}",
        "LLM_PROXY_VAULT_KEYS": running.VAULT_KEY,
        "LLM_PROXY_REDIS_TLS_VERIFY": "required",
    }

    run = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env=running.environment(**variables), capture_output=True, text=True
    )

    assert run.returncode == 0, run.stderr
