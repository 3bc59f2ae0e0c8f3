"""The package as users get it: installed into an empty environment, started in an empty directory, with an empty home.

`make package` runs it, for each of PYTHONS. It takes minutes: pip fetches everything anew.
"""

from __future__ import annotations

import json
import os
import runpy
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
import requests

import tasks
from tests import running
from tests.integration.test_pipeline import ask
from tests.ports import free_port
from tests.running import ROOT, Process, until
from tests.simulator.server import Simulator
from tests.system.conftest import is_ready
from tests.system.test_package import EPOCH, PROJECT, tree

PYTHONS = os.environ.get("PYTHONS", sys.executable).split()
pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module", params=PYTHONS)
def home(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An empty home, with nothing but a virtual environment that the wheel was installed into."""
    [_, wheel] = runpy.run_path(str(ROOT / ".ci/package.py"))["build"](
        tree(tmp_path_factory), tmp_path_factory.mktemp("dist"), EPOCH
    )
    with running.short_directory() as place:
        began = time.monotonic()
        for command in ([request.param, "-m", "venv", "venv"], ["venv/bin/pip", "install", "--quiet", str(wheel)]):
            done = subprocess.run(command, cwd=place, env=clean(place), capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
        print(f"\n{request.param}: installed in {time.monotonic() - began:.0f} s")  # noqa: T201
        (place / "empty").mkdir()
        yield place


def clean(home: Path, **variables: str) -> dict[str, str]:
    """An environment that knows pip's registry, and nothing of this checkout."""
    kept = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "LANG", "LC_"))}
    return {**kept, "HOME": str(home), "PATH": "/usr/bin:/bin", **variables}


def llm_proxy(home: Path, *words: str) -> str:
    """What the installed command says."""
    return subprocess.run(
        [home / "venv/bin/llm-proxy", *words], cwd=home / "empty", env=clean(home), capture_output=True, text=True,
        check=True,
    ).stdout  # fmt: skip


def test_nothing_but_what_it_needs_is_installed(home: Path) -> None:
    listed = subprocess.run([home / "venv/bin/pip", "list", "--format=json"], capture_output=True, check=True).stdout
    installed = {package["name"].lower().replace("_", "-") for package in json.loads(listed)}
    tools = {name.split(">")[0].strip() for name in PROJECT["dependency-groups"]["dev"]} - {"setuptools"}

    assert not installed & tools
    assert llm_proxy(home, "--version") == f"llm-proxy {tasks.__version__}\n"
    assert len(llm_proxy(home, "vault-key")) == 45


def test_it_starts_from_an_empty_directory_and_answers(home: Path, shared_upstream: Simulator) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    brisk = {"LLM_PROXY_MAX_HOLD_SECONDS": "0.3", "LLM_PROXY_POLL_MIN_SECONDS": "0.2"}
    variables = clean(home, PORT=str(port), LLM_PROXY_UPSTREAM=shared_upstream.url, **brisk)
    log = home / "up.log"
    with log.open("wb") as output:
        popen = subprocess.Popen(
            [home / "venv/bin/llm-proxy", "up"], cwd=home / "empty", env=variables, stdout=output, stderr=output,
            start_new_session=True,
        )  # fmt: skip
    process = Process("up", popen, log)
    try:
        until(lambda: is_ready(port) or popen.poll() is not None, "it is ready", 60)
        with openai.OpenAI(base_url=f"{url}/v1", api_key="sk-packaged") as client:
            assert ask(client, "hello", "packaged") == "echo:hello"
        page = requests.get(f"{url}/dashboard", timeout=10)
        assert page.ok
        for name in ("dashboard.css", "dashboard.js", "icon.svg"):
            assert name in page.text
            assert (
                requests.get(f"{url}/dashboard/{name}", timeout=10).content == (ROOT / "web/static" / name).read_bytes()
            )
        assert {path.name for path in (home / "empty").iterdir()} == {"var"}
        assert "Traceback" not in process.text(), process.text()
    finally:
        process.stop(signal.SIGINT, 40)
    assert popen.returncode == 0, process.text()
    shutil.rmtree(home / "empty/var")
