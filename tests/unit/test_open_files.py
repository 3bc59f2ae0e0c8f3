"""How many clients a process can hold, on systems that name a limit and on those that do not."""

from __future__ import annotations

import resource

import pytest

from tasks import open_files


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The limits as they are set one after the other; the last one counts."""
    seen = [(256, 4096)]
    monkeypatch.setattr(resource, "getrlimit", lambda _: seen[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda _, limit: seen.append(limit))
    return seen


def test_a_process_allows_itself_all_that_it_may_have(limits: list[tuple[int, int]]) -> None:
    open_files.allow_all()

    assert limits[-1] == (4096, 4096)
    assert (open_files.allowed(), open_files.possible()) == (4096, 4096)


def test_a_system_without_a_limit_is_asked_for_a_number_that_it_takes(limits: list[tuple[int, int]]) -> None:
    limits.append((256, resource.RLIM_INFINITY))

    open_files.allow_all()

    assert limits[-1] == (open_files.UNNAMED, resource.RLIM_INFINITY)
    assert open_files.allowed() == open_files.possible() == open_files.UNNAMED > 0
