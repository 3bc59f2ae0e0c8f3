"""Changes the code in each small way that mutmut knows, runs the tests that concern it, lists what none noticed.

It works on a copy below .mutants/, where mutmut's configuration is written, too. Tests that hypothesis feeds are left
out: they find other things each time.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[2]
COPY = ROOT / ".mutants/copy"
COPIED = ("web", "tasks", "tests", "examples", "docs", "celeryconfig.py", "pyproject.toml", "README.md")
#: What is changed, and the tests that ought to notice.
PARTS: dict[str, tuple[list[str], list[str]]] = {
    "pure": (
        ["outcomes", "backoff", "jsonl", "usage", "prices", "flex", "turns", "words", "alerts"],
        [f"tests/unit/test_{name}.py" for name in (
            "outcomes", "backoff", "jsonl", "usage", "prices", "flex", "turns", "words", "alerts",
        )],
    ),
    "stages": (
        ["submission", "polling", "delivery", "rest", "cleaning", "stage", "collector", "quota", "unbatchable"],
        [f"tests/integration/test_{name}.py" for name in (
            "stages", "stage_polling", "stage_delivery", "stage_files", "stage_ends",
        )],
    ),
}  # fmt: skip
PATIENCE = "seconds: float = 30.0"
RANDOM = (
    "tests/unit/test_jsonl.py::test_lines_are_found_whatever_the_pieces_they_come_in",
    "tests/unit/test_usage.py::test_no_body_is_too_strange",
)


def main() -> int:
    """Run one part; survivors are no failure, but are to be looked at."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", choices=PARTS, default="pure")
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    files, tests = PARTS[options.part]
    _copy(files, tests)
    mutmut = [str(Path(sys.executable).parent / "mutmut")]
    ran = subprocess.run([*mutmut, "run", "--max-children", str(options.processes)], cwd=COPY)
    results = subprocess.run([*mutmut, "results"], cwd=COPY, capture_output=True, text=True, check=True).stdout
    left = [line.strip() for line in results.splitlines() if line.strip()]
    for name, count in sorted(Counter(line.split("__mutmut_")[0] for line in left).items()):
        sys.stdout.write(f"{count:5}  {name}\n")
    sys.stdout.write(f"{len(left)} left; in {COPY}: mutmut results, mutmut show NAME\n")
    return ran.returncode


def _copy(files: list[str], tests: list[str]) -> None:
    shutil.rmtree(COPY, ignore_errors=True)
    COPY.mkdir(parents=True)
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, COPY / name, ignore=shutil.ignore_patterns("__pycache__", "node_modules"))
        else:
            shutil.copy(source, COPY / name)
    running = COPY / "tests/running.py"  # what a mutant keeps from happening need not be waited for so long
    running.write_text(running.read_text().replace(PATIENCE, PATIENCE.replace("30.0", "3.0")))
    arguments = ["-p", "no:cacheprovider", *(word for test in RANDOM for word in ("--deselect", test))]
    settings = {
        "source_paths": ["tasks"],
        "only_mutate": [f"tasks/{name}.py" for name in files],
        "also_copy": [name for name in COPIED if name not in {"tasks", "tests", "pyproject.toml"}],
        "pytest_add_cli_args": arguments,
        "pytest_add_cli_args_test_selection": tests,
    }
    lines = [f"{name} = {json.dumps(value)}" for name, value in settings.items()]
    with (COPY / "pyproject.toml").open("a") as config:
        config.write("\n[tool.mutmut]\n" + "\n".join(lines) + "\n")


if __name__ == "__main__":
    sys.exit(main())
