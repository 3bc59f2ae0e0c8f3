"""The replay of the Dockerfile (tests/image) takes the steps and the files that Docker would take."""

from __future__ import annotations

from pathlib import Path

from tests.image.dockerfile import Step, steps
from tests.image.tree import Tree

ROOT = Path(__file__).parents[2]


def test_a_stage_has_the_steps_of_those_that_it_builds_on_and_no_others() -> None:
    last, tools = steps(ROOT / "Dockerfile"), steps(ROOT / "Dockerfile", "tools")

    assert [step.name for step in last][:1] == ["FROM"]
    assert last[0].text.startswith("python:")
    assert not any("flower" in step.text or step.text.startswith("tests") for step in last)
    assert last[-1].words == ["python", "-m", "tasks", "up"]
    assert any("flower" in step.text for step in tools)
    assert last[:5] == tools[:5]


def test_lines_that_go_on_are_one_step_and_comments_none(tmp_path: Path) -> None:
    file = tmp_path / "Dockerfile"
    file.write_text("FROM a AS b\n# no\nRUN one \\\n    && two\nENV A=1 \\\n    B=2\nFROM b\nUSER 7\n")

    assert steps(file) == [
        Step("FROM", "a AS b"), Step("RUN", "one      && two"), Step("ENV", "A=1      B=2"), Step("USER", "7"),
    ]  # fmt: skip
    assert steps(file)[2].pairs == {"A": "1", "B": "2"}


def test_copies_are_what_the_ignore_file_lets_in(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    for source in ("tests", "examples", "web"):
        tree.take(Step("COPY", f"{source} {source}"), ROOT)

    assert sorted(path.name for path in (tmp_path / "tests").iterdir()) == ["__init__.py", "simulator"]
    assert not (tmp_path / "examples/deploy").exists()
    assert (tmp_path / "examples/many").is_dir()
    assert (tmp_path / "web/templates").is_dir()
    assert not list(tmp_path.rglob("__pycache__"))


def test_user_directory_and_environment_are_those_of_the_steps(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    for step in (Step("WORKDIR", "/app"), Step("ENV", "A=1"), Step("USER", "7")):
        tree.take(step, ROOT)

    assert (tree.directory, tree.user, tree.environment["A"]) == ("/app", "7:7", "1")
    assert (tmp_path / "app").is_dir()
