"""`python -m tests.faults.record`: runs every scenario unharmed and writes down the points that it passes."""

from __future__ import annotations

from pathlib import Path

from tests.faults import scenarios
from tests.faults.scenarios import Ground

POINTS = Path(__file__).with_name("points.txt")


def load() -> dict[str, list[str]]:
    """Points by the scenario that reaches them first."""
    found: dict[str, list[str]] = {}
    for line in POINTS.read_text().splitlines():
        scenario, _, point = line.partition(": ")
        found.setdefault(scenario, []).append(point)
    return found


def save(points: dict[str, set[str]]) -> None:
    """Write the points, each under the first scenario that reaches it."""
    known: set[str] = set()
    lines = []
    for scenario, seen in points.items():
        lines += [f"{scenario}: {point}" for point in sorted(seen - known)]
        known |= seen
    POINTS.write_text("\n".join(lines) + "\n")


def run_all(ground: Ground) -> dict[str, set[str]]:
    """Every scenario unharmed; the points that each passes."""
    passed = {}
    for name in scenarios.SCENARIOS:
        ground.record()
        scenarios.run(ground, name, f"record {name}")
        passed[name] = ground.seen()
    return passed


if __name__ == "__main__":
    with scenarios.opened() as made:
        save(run_all(made))
