"""docs/architecture.md says what the code does: its files, its states and who writes them, its keys in Redis."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path

import pytest

from tasks import departures, message, models, stack, store, sweeper
from tasks.models import BatchState, RequestState
from tasks.pipeline import STAGE
from tests.unit.test_imports import ROOT, modules

PAGE = (ROOT / "docs/architecture.md").read_text()
SCRIPTS = {path.name: store.source(path.stem) for path in store.LUA_DIR.glob("*.lua")}
STAGES = {"tasks/submission.py": "submit", "tasks/polling.py": "poll", "tasks/delivery.py": "deliver"}
#: What stands for an id in a key.
SOME: str = "SOME"


def section(title: str) -> str:
    found = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", PAGE, re.M | re.S)
    assert found, title
    return found[1]


def rows(text: str, columns: int) -> list[list[str]]:
    lines = [line[1:-1].split("|") for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line] for line in lines if len(line) == columns]


def words(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", re.sub(r"```.*?```", "", text, flags=re.S))


# Files


def test_every_file_of_the_front_and_the_pipeline_is_named() -> None:
    named = set(words(PAGE))

    assert {str(path.relative_to(ROOT)) for path in modules().values()} - named == set()


def test_no_file_is_named_that_is_not_there() -> None:
    named = {word for word in words(PAGE) if re.fullmatch(r"(web|tasks|tests|docs)/[\w./]+\.(py|lua|toml)", word)}

    assert {name for name in named if not (ROOT / name).exists()} == set()


def test_no_script_is_named_that_is_not_there() -> None:
    assert {word for word in words(PAGE) if re.fullmatch(r"\w+\.lua", word)} - set(SCRIPTS) == set()


# States


@pytest.mark.parametrize("states", [RequestState, BatchState], ids=["request", "batch"])
def test_the_picture_shows_every_state(states: type[StrEnum]) -> None:
    picture = section("States").split("```")[1]

    assert set(states) - set(re.findall(r"\w+", picture)) == set()


@pytest.mark.parametrize("enum", [models.Lane, models.Attempt, models.Outcome, departures.How])
def test_every_word_of_a_record_is_listed(enum: type[StrEnum]) -> None:
    listed = [cells[1] for cells in rows(section("States"), 2) if cells[0].startswith(f"`{enum.__name__}`")]

    assert [words(cell) for cell in listed] == [[str(word) for word in enum]]


def test_the_words_of_every_record_are_listed() -> None:
    """A new enumeration wants its row."""
    made = {name for path in modules().values() for name in re.findall(r"class (\w+)\(StrEnum\)", path.read_text())}
    listed = {words(cells[0])[0] for cells in rows(section("States"), 2) if words(cells[0])}

    assert made == listed | {"RequestState", "BatchState"}


def test_the_scripts_that_write_a_requests_state_are_those_of_the_table() -> None:
    table = {words(cells[0])[0]: words(cells[2]) for cells in rows(section("States"), 4) if words(cells[0])}
    writes = re.compile(r"'HSET', [^)]*?'state', '(\w+)'", re.S)
    made = {name: sorted(set(writes.findall(text)) & set(RequestState)) for name, text in SCRIPTS.items()}

    assert {name: states for name, states in table.items() if states} == {n: s for n, s in made.items() if s}


def stage_table() -> dict[str, tuple[set[str], set[str]]]:
    table = [cells for cells in rows(section("States"), 3) if words(cells[0])]
    return {words(takes)[0]: (set(words(before)), set(words(after))) for takes, before, after in table}


def calls(path: str, name: str) -> Iterator[list[str]]:
    """The batch states among the arguments of each call of `name`."""
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == name:
            names = [argument.attr for argument in node.args if isinstance(argument, ast.Attribute)]
            yield [BatchState[name] for name in names if name in BatchState.__members__]


@pytest.mark.parametrize("path", STAGES)
def test_a_stage_takes_batches_up_in_the_states_of_the_table(path: str) -> None:
    taken = {state for states in calls(path, "run") for state in states}

    assert taken == stage_table()[path][0]
    assert taken == {state for state, stage in STAGE.items() if stage == STAGES[path]}


@pytest.mark.parametrize("path", [*STAGES, "tasks/stage.py"])
def test_a_stage_moves_batches_to_the_states_of_the_table(path: str) -> None:
    assert {state for states in calls(path, "advance") for state in states} == stage_table()[path][1]


def test_nobody_else_moves_a_batch() -> None:
    movers = {str(path.relative_to(ROOT)) for path in modules().values() if ".advance(" in path.read_text()}

    assert movers - {"tasks/leases.py"} == set(stage_table())
    assert [name for name, text in SCRIPTS.items() if "'claimed', 'group'" in text] == ["claim.lua"]


# Keys


def keys_of_page() -> dict[str, str]:
    """The page's keys, each with a pattern for it."""
    listed = [words(cells[0])[0] for cells in rows(section("Keys in Redis"), 4) if words(cells[0])]
    assert len(listed) == len(set(listed))
    return {key: re.sub(r"<[^>]*>", "[^:]+", key) for key in listed}


def keys_of_scripts() -> set[str]:
    found = re.findall(r"(?:prefix|ARGV\[1\]) \.\. '([^']*)'", "".join(SCRIPTS.values()))
    return {key + SOME if key.endswith(":") else key for key in found}


def keys_of_modules() -> set[str]:
    found = set()
    for path in modules().values():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr) and ast.unparse(node).startswith(("f'{store.PREFIX}", "f'{PREFIX}")):
                rest = node.values[1:]
                found.add("".join(str(part.value) if isinstance(part, ast.Constant) else SOME for part in rest))
    # A name that is put together of nothing but variables is one of those in the lists beside it.
    return {key for key in found if not key.startswith(SOME)}


def test_every_key_in_the_code_is_on_the_page() -> None:
    patterns = keys_of_page().values()
    used = keys_of_scripts() | keys_of_modules()

    assert {key for key in used if not any(re.fullmatch(pattern, key) for pattern in patterns)} == set()


def test_every_key_on_the_page_is_in_the_code() -> None:
    used = keys_of_scripts() | keys_of_modules()

    assert {key for key, pattern in keys_of_page().items() if not any(re.fullmatch(pattern, k) for k in used)} == set()


def test_the_queues_and_celerys_own_keys_are_on_the_page() -> None:
    named = set(words(section("Keys in Redis")))
    queues = {queue for queues, _ in stack.LANES.values() for queue in queues.split(",")}
    names = {f"{store.RESULT_PREFIX}<id>", message.group_queue("<group id>"), sweeper.UNACKED, sweeper.UNACKED_INDEX}

    assert queues | names <= named


def test_nothing_but_scripts_and_the_prefix_makes_a_key() -> None:
    """A key written without the prefix would be in no list."""
    bare = re.compile(r"redis\.p?call\('\w+', '([^']+)'")
    found = {name for text in SCRIPTS.values() for name in bare.findall(text)}

    assert found <= {"sync", "collect", "control", "batch.", "NUMSUB"}


def test_the_page_is_where_the_readme_says() -> None:
    assert "docs/architecture.md" in Path(ROOT / "README.md").read_text()
