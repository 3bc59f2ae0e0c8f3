"""Imports point one way: the list below is the architecture, and an unlisted import fails."""

from __future__ import annotations

import ast
import functools
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

#: Lowest first: a module imports only modules above it in this list.
ORDER = [
    "tasks", "tasks.errors", "tasks.settings", "tasks.log", "tasks.models", "tasks.access",
    "tasks.providers", "tasks.providers.catalogue", "tasks.providers.envelopes", "tasks.message",
    "tasks.backoff", "tasks.connections", "tasks.store", "tasks.vault", "tasks.allowances", "tasks.sealing",
    "tasks.stats", "tasks.pressure", "tasks.usage",
    "tasks.settle", "tasks.presence", "tasks.departures", "tasks.accept", "tasks.results", "tasks.hints",
    "tasks.batches", "tasks.leases", "tasks.turns", "tasks.stage",
    "tasks.prices", "tasks.spending", "tasks.history", "tasks.holding", "tasks.open_files", "tasks.overview",
    "tasks.budgets",
    "tasks.words", "tasks.alerts",
    "tasks.quota", "tasks.unbatchable", "tasks.jsonl", "tasks.flex", "tasks.outcomes",
    "tasks.providers.dialect", "tasks.providers.http", "tasks.providers.account", "tasks.providers.openai_files",
    "tasks.providers.google", "tasks.providers.openai", "tasks.providers.anthropic", "tasks.providers.gemini",
    "tasks.providers.gemini_inline", "tasks.providers.registry",
    "tasks.control", "tasks.rest", "tasks.cleaning",
    "tasks.sync", "tasks.delivery", "tasks.polling", "tasks.submission", "tasks.collector", "tasks.sweeper",
    "tasks.events", "tasks.transport", "tasks.pipeline", "celeryconfig", "tasks.celery", "tasks.flower",
    "tasks.supervisor", "tasks.embedded_redis", "tasks.stack",
    "tasks.cli", "tasks.cli.output", "tasks.cli.run", "tasks.cli.show", "tasks.cli.change", "tasks.cli.doctor",
    "tasks.cli.app", "tasks.__main__",
    "web", "web.shapes", "web.errors", "web.auth", "web.access", "web.tokens", "web.access_log",
    "web.carrying", "web.parsing", "web.messages", "web.generate", "web.sse", "web.replies", "web.clients",
    "web.bodies", "web.alarms", "web.sockets", "web.waiting", "web.answer",
    "web.incoming", "web.upstream", "web.exchange", "web.relay",
    "web.api", "web.stats", "web.metric_table", "web.metrics", "web.plots", "web.dashboard", "web.health",
    "web.webhooks", "web.openapi", "web.app", "web.worker", "web.gunicorn.conf",
]  # fmt: skip
#: The front never sees a stage.
STAGES = {"tasks.sync", "tasks.delivery", "tasks.polling", "tasks.submission", "tasks.collector", "tasks.sweeper"}


@functools.cache
def modules() -> dict[str, Path]:
    paths = [*ROOT.glob("web/**/*.py"), *ROOT.glob("tasks/**/*.py"), ROOT / "celeryconfig.py"]
    return {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in paths}


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return {name for name in names if name in modules()}


def test_every_module_has_its_place() -> None:
    assert sorted(modules()) == sorted(ORDER)


@pytest.mark.parametrize("module", ORDER)
def test_a_module_imports_only_what_stands_before_it(module: str) -> None:
    before = set(ORDER[: ORDER.index(module)])

    assert imported(modules()[module]) <= before


@pytest.mark.parametrize("module", [name for name in ORDER if name.startswith("web")])
def test_the_front_sees_no_stage_and_no_celery(module: str) -> None:
    assert not imported(modules()[module]) & STAGES
    assert "celery" not in {name.split(".")[0] for name in imported_anything(modules()[module])}


def imported_anything(path: Path) -> set[str]:
    tree = ast.walk(ast.parse(path.read_text()))
    return {alias.name for node in tree if isinstance(node, ast.Import) for alias in node.names} | {
        node.module
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module
    }


def test_only_settings_read_the_environment() -> None:
    readers = {name for name, path in modules().items() if "os.environ" in path.read_text()}

    assert readers == {"tasks.settings"}
