"""What is asked at each point; several test files share it, so that they can run side by side."""

from __future__ import annotations

from tests.faults import points, scenarios
from tests.faults.ground import Ground
from tests.faults.points import SOMETIMES

#: A point that a scenario passes by chance, such as the renewal of a lease, is waited for in so many runs.
RUNS = 3
PARTS = 4
#: Points of this process so far, and those of them at which nobody died.
TRIED: list[str] = []
MISSED: list[str] = []
MISSED_PART = 0.1


def part(number: int) -> list[tuple[str, str]]:
    """A share of all points, (scenario, point); dealt like cards, as neighbours take equally long."""
    return points.listed()[number::PARTS]


def kill_there(ground: Ground, scenario: str, point: str) -> None:
    """Let a process die at the point; nothing is lost and nothing is paid twice."""
    by_chance, scenario = scenario.startswith(SOMETIMES), scenario.removeprefix(SOMETIMES)
    TRIED.append(point)
    for _ in range(RUNS):
        counted = ground.possibly_double_paid()
        ground.arm(point)
        try:
            billed = scenarios.run(ground, scenario)
        finally:
            ground.disarm()
        paid_twice = billed["more_than_once"]
        if scenario in scenarios.SYNCHRONOUS and paid_twice:
            # A synchronous call that was cut may have been paid; then it is counted, never hidden.
            assert len(paid_twice) <= ground.possibly_double_paid() - counted
        else:
            assert len(paid_twice) <= scenarios.PAID_AGAIN.get(scenario, 0), paid_twice
        if ground.fired:
            return
        ground.stack.kill_worker_of_web()  # it may be a step of a front's first request
    if not by_chance:
        MISSED.append(f"{scenario}: {point}")  # what was run was right all the same


def nearly_all_were_passed() -> None:
    """On a busy machine a step falls into another situation now and then; more of it, and the list is out of date."""
    assert len(MISSED) <= MISSED_PART * len(TRIED), MISSED
