"""The package: the same bytes each time, everything that is needed and nothing else, one version."""

from __future__ import annotations

import email
import runpy
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Callable
from email.message import Message
from pathlib import Path
from typing import cast

import pytest

import tasks
from tests.running import ROOT, environment
from web import openapi

EPOCH = 1_700_000_000
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
#: What the code in `web` and `tasks` is, beside Python.
CODE = (".py", ".lua", ".toml", ".html", ".css", ".js", ".svg", "py.typed")
Build = Callable[[Path, Path, int], list[Path]]


def tree(tmp_path_factory: pytest.TempPathFactory, *, dated: bool = True) -> Path:
    """A copy of what the package is made of, with the files' own times or with those of now."""
    made = tmp_path_factory.mktemp("tree")
    for name in ("tasks", "web"):
        shutil.copytree(ROOT / name, made / name, copy_function=shutil.copy2 if dated else shutil.copy)
    for name in ("celeryconfig.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, made)
    return made


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> list[list[Path]]:
    """Sdist and wheel, built twice: from two copies of the tree with other times and modes."""
    build = cast(Build, runpy.run_path(str(ROOT / ".ci/package.py"))["build"])
    trees = [tree(tmp_path_factory), tree(tmp_path_factory, dated=False)]
    (trees[0] / "README.md").chmod(0o600)
    return [build(each, tmp_path_factory.mktemp("dist"), EPOCH) for each in trees]


@pytest.fixture(scope="module")
def wheel(packages: list[list[Path]]) -> zipfile.ZipFile:
    """The wheel."""
    return zipfile.ZipFile(packages[0][1])


@pytest.fixture(scope="module")
def metadata(wheel: zipfile.ZipFile) -> Message:
    """What it says of itself."""
    [name] = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    return email.message_from_bytes(wheel.read(name))


@pytest.mark.parametrize("kind", [0, 1], ids=["sdist", "wheel"])
def test_two_builds_have_the_same_bytes(packages: list[list[Path]], kind: int) -> None:
    first, second = (made[kind] for made in packages)

    assert first.name == second.name
    assert first.read_bytes() == second.read_bytes()


def test_the_wheel_holds_all_of_the_code_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    code = {path for name in ("tasks", "web") for path in (ROOT / name).rglob("*") if path.is_file()}
    code = {path.relative_to(ROOT) for path in code if "__pycache__" not in path.parts}
    unknown = {str(path) for path in code if not path.name.endswith(CODE)}

    assert not unknown, "say in pyproject.toml's package-data, and here, what these are"
    shipped = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert shipped == {str(path) for path in code} | {"celeryconfig.py"}
    assert {"tasks/py.typed", "web/py.typed", "tasks/lua/settle.lua", "web/static/dashboard.js"} <= shipped


def test_the_sdist_holds_what_the_wheel_holds(packages: list[list[Path]], wheel: zipfile.ZipFile) -> None:
    with tarfile.open(packages[0][0]) as sdist:
        held = {name.partition("/")[2] for name in sdist.getnames()}

    assert {name for name in wheel.namelist() if ".dist-info/" not in name} <= held
    assert {"LICENSE", "README.md", "pyproject.toml"} <= held
    assert not [name for name in held if name.startswith("tests")]


def test_it_is_licensed_and_says_which_pythons_it_is_for(wheel: zipfile.ZipFile, metadata: Message) -> None:
    assert metadata["License-Expression"] == "MIT"
    assert [name for name in wheel.namelist() if name.endswith("/licenses/LICENSE")]
    assert metadata["Requires-Python"] == PROJECT["project"]["requires-python"] == ">=3.11"


def test_it_brings_no_tool_of_the_tests(metadata: Message) -> None:
    def names(requirements: list[str]) -> set[str]:
        return {requirement.split(">")[0].split("[")[0].strip() for requirement in requirements}

    wanted = names(metadata.get_all("Requires-Dist", []))

    assert wanted == names(PROJECT["project"]["dependencies"])
    assert not wanted & names(PROJECT["dependency-groups"]["dev"])
    assert "Provides-Extra" not in metadata


def test_the_version_stands_in_one_place_and_all_say_the_same(metadata: Message) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tasks", "--version"], cwd=ROOT, env=environment(), capture_output=True, text=True
    )

    assert "version" not in PROJECT["project"]
    assert done.stdout == f"llm-proxy {tasks.__version__}\n"
    assert metadata["Version"] == openapi.DOCUMENT["info"]["version"] == tasks.__version__


def test_an_older_python_is_told_in_one_sentence_by_pip(packages: list[list[Path]], tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pip", "install", "--python-version", "3.10", "--only-binary=:all:", "--no-deps",
         "--no-index", "--target", str(tmp_path), str(packages[0][1])],
        capture_output=True, text=True,
    )  # fmt: skip

    assert done.returncode == 1
    assert "requires a different Python: 3.10" in done.stderr
    assert "not in '>=3.11'" in done.stderr
