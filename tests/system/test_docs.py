"""What the documents say can be done: every command is run by a test, every file, link, setting and menu entry exists.

A command that is new, changed or gone fails here: say in commands.toml which test runs it, or let this one run it.
"""

from __future__ import annotations

import ast
import functools
import re
import shlex
import subprocess
import sys
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest

from tasks.settings import Settings, variable
from tests.running import ROOT, environment

DOCUMENTS = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in ("*.md", "docs/*.md", "examples/**/README.md")
    for path in ROOT.glob(pattern)
    if "node_modules" not in path.parts
)
SHELL = ("sh", "bash", "shell", "console")
#: First words of commands, which stand in a block of a shell's or nowhere.
PROGRAMS = (
    "make",
    "python",
    "pip",
    "docker",
    "heroku",
    "curl",
    "git",
    "npm",
    "go",
    "sh",
    "export",
    "llm-proxy",
    "kubectl",
)

COMMANDS = tomllib.loads(Path(__file__).with_name("commands.toml").read_text())
RUN_HERE: dict[str, str] = COMMANDS["run_here"]


@functools.cache
def blocks(document: str) -> list[tuple[str, str]]:
    """The fenced blocks of a document: language and text."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", (ROOT / document).read_text(), re.M | re.S)


def commands(document: str) -> list[str]:
    """The shell commands of a document, without comments."""
    text = "".join(text for language, text in blocks(document) if language in SHELL).replace("\\\n", " ")
    lines = (re.sub(r"(^|\s+)#.*$", "", line).strip() for line in text.splitlines())
    return [re.sub(r"\s+", " ", line) for line in lines if line]


@functools.cache
def prose(document: str) -> str:
    """A document without its blocks."""
    return re.sub(r"^```.*?^```$", "", (ROOT / document).read_text(), flags=re.M | re.S)


def quoted(document: str) -> list[str]:
    """What stands between backticks in the text."""
    return [" ".join(each.split()) for each in re.findall(r"`([^`]+)`", prose(document))]


def names_of(text: str) -> set[str]:
    """The functions of a test file."""
    return {node.name for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)}


def test_every_command_is_known_and_none_has_vanished() -> None:
    found = {command for document in DOCUMENTS for command in commands(document)}
    known = {command for table in COMMANDS.values() for command in table}

    assert found - known == set(), "say which test runs these"
    assert known - found == set(), "no document has these any more"


@pytest.mark.parametrize("where", sorted({*COMMANDS["run_by"].values(), *COMMANDS["not_run"].values()} - {""}))
def test_what_runs_a_command_exists(where: str) -> None:
    path, _, name = where.partition("::")

    assert (ROOT / path).is_file()
    assert not name or name in names_of((ROOT / path).read_text())


@pytest.mark.parametrize("command", RUN_HERE)
def test_a_command_does_what_its_document_says(command: str) -> None:
    words = [sys.executable if word == ".venv/bin/python" else word for word in shlex.split(command)]

    done = subprocess.run(words, cwd=ROOT, env=environment(), capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    assert RUN_HERE[command] in done.stdout


@pytest.mark.parametrize("document", DOCUMENTS)
def test_no_command_stands_outside_a_shells_block(document: str) -> None:
    elsewhere = "".join(text for language, text in blocks(document) if not language)
    indented = "".join(re.findall(r"^    .*\n", prose(document), re.M))

    assert not re.findall(rf"^ *(?:[A-Z_]+=\S* )*(?:{'|'.join(PROGRAMS)}) .*$", elsewhere + indented, re.M)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_code_of_other_languages_can_be_read(document: str) -> None:
    for language, text in blocks(document):
        if language == "python":
            compile(text, document, "exec")
        elif language == "toml":
            tomllib.loads(text)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_menu_entry_named_exists(document: str) -> None:
    menu = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    text = "\n".join([*quoted(document), *commands(document)])

    assert set(re.findall(r"\bmake ([a-z]+)\b", text)) <= menu


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_file_and_module_named_exists(document: str) -> None:
    missing = []
    for text in quoted(document):
        for module in re.findall(r"python -m ((?:tests|tasks|examples)[\w.]*)", text):
            if (
                not (ROOT / module.replace(".", "/")).is_dir()
                and not (ROOT / f"{module.replace('.', '/')}.py").is_file()
            ):
                missing.append(text)
        for word in text.split():
            path, _, name = word.partition("::")
            first = path.split("/")[0]
            if re.fullmatch(r"[\w.-]+/[\w./*-]*", path) and first != "." and (ROOT / first).is_dir():
                found = list(ROOT.glob(path.rstrip("/")))
            elif re.fullmatch(r"test_\w+\.py", path):
                found = list(ROOT.glob(f"tests/**/{path}"))
            else:
                continue
            if not found or (name and name not in names_of(found[0].read_text())):
                missing.append(word)

    assert not missing


@functools.cache
def anchors(path: Path) -> set[str]:
    """The headings of a document as links name them."""
    text = re.sub(r"^```.*?^```$", "", path.read_text(), flags=re.M | re.S)
    headings = re.findall(r"^#+ (.*)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_link_leads_somewhere(document: str) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", prose(document))
    broken = []
    for link in links:
        path, _, anchor = link.partition("#")
        if re.match(r"[a-z]+:", link):
            continue
        target = (ROOT / document).parent / path if path else ROOT / document
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)

    assert not broken


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_setting_named_is_one(document: str) -> None:
    known = {variable(field.name) for field in fields(Settings)}
    known |= {f"{variable(field.name)}_FILE" for field in fields(Settings) if field.metadata["secret"]}

    assert set(re.findall(r"\bLLM_PROXY_[A-Z_]*[A-Z]\b", (ROOT / document).read_text())) <= known


def test_every_document_is_reached_from_readme() -> None:
    reached, todo = set(), ["README.md"]
    while todo:
        document = todo.pop()
        if document in reached or not document.endswith(".md"):
            continue
        reached.add(document)
        for link in re.findall(r"\]\(([^)#\s:]+)", prose(document)):
            path = ((ROOT / document).parent / link).resolve()
            path = path / "README.md" if path.is_dir() else path
            todo += [path.relative_to(ROOT).as_posix()] if path.is_file() else []

    assert set(DOCUMENTS) - reached == set()
