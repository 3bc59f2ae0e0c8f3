"""What is asked at each point; several test files share it, so that they can run side by side."""

from __future__ import annotations

from tests.faults import points, scenarios
from tests.faults.ground import Ground
from tests.faults.points import SOMETIMES

#: A point that a scenario passes by chance, such as the renewal of a lease, is waited for in so many runs.
RUNS = 3
PARTS = 4


def part(number: int) -> list[tuple[str, str]]:
    """A share of all points, (scenario, point); dealt like cards, as neighbours take equally long."""
    return points.listed()[number::PARTS]


def kill_there(ground: Ground, scenario: str, point: str) -> None:
    """Let a process die at the point; nothing is lost and nothing is paid twice."""
    by_chance, scenario = scenario.startswith(SOMETIMES), scenario.removeprefix(SOMETIMES)
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
    if by_chance:
        return  # it was not passed this time; what was run was right
    raise AssertionError(f"{point} was not passed in {RUNS} runs of {scenario}")
