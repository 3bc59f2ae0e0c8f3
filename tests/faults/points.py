"""`python -m tests.faults.points`: runs every scenario unharmed and writes down the points that it passes.

The list, `points.txt`, has each point under the first scenario that passes it: in a later one it
would be the same step in the same situation. What one run passes and another does not, because a back-off fell
differently or a tick came in between, stands under "sometimes": its test kills where it can.
"""

from __future__ import annotations

from pathlib import Path

from tests.faults import passages, scenarios
from tests.faults.ground import Ground, faults_ground

POINTS = Path(__file__).with_name("points.txt")
#: A point that a scenario passes by chance is found by one of so many runs.
RUNS = 4
SOMETIMES = "sometimes "


def listed() -> list[tuple[str, str]]:
    """(scenario, point) of all points; the scenario of one that is passed by chance begins with SOMETIMES."""
    lines = POINTS.read_text().splitlines()
    return [(scenario, point) for scenario, _, point in (line.partition(": ") for line in lines)]


def passed_by(ground: Ground, scenario: str) -> set[str]:
    """The points that one unharmed run of a scenario passes."""
    with ground.recorded():
        scenarios.run(ground, scenario)
    return passages.points(ground.seen())


def record(ground: Ground) -> None:
    """Write the list anew."""
    known: set[str] = set()
    lines = []
    for scenario in scenarios.SCENARIOS:
        runs = [passed_by(ground, scenario) for _ in range(RUNS)]
        always, passed = set.intersection(*runs), set().union(*runs)
        lines += [f"{scenario}: {point}" for point in sorted(always - known)]
        lines += [f"{SOMETIMES}{scenario}: {point}" for point in sorted(passed - always - known)]
        known |= passed
    POINTS.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    with faults_ground() as made:
        record(made)
