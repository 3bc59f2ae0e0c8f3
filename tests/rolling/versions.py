"""Another commit of this repository beside the checkout, and processes that are started from either."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from tests import running
from tests.running import Launch, Process


@contextlib.contextmanager
def checkout(commit: str) -> Iterator[Path]:
    """The tree of a commit in a directory of its own, for one `with`; it is run by this virtual environment."""
    with running.short_directory() as directory:
        tree = directory / "tree"
        _git("worktree", "add", "--quiet", "--detach", str(tree), commit)
        try:
            yield tree
        finally:
            _git("worktree", "remove", "--force", str(tree))


def _git(*arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=running.ROOT, check=True)


def launch_from(tree_of: Callable[[str], Path]) -> Launch:
    """Starts each process of a stack, by its name, in the tree that `tree_of` says at that moment."""

    def launch(name: str, command: list[str], variables: Mapping[str, str], log_dir: Path) -> Process:
        return running.start(name, command, variables, log_dir, tree_of(name))

    return launch
