"""A short run of each mode, with a seed of its own; `make chaos` runs longer ones."""

from __future__ import annotations

import importlib

import pytest

chaos = importlib.import_module("tests.chaos.__main__")


@pytest.mark.parametrize("mode", ["batch", "sync"])
@pytest.mark.timeout(300)
def test_a_short_chaos_loses_nothing_and_pays_nothing_twice_unseen(mode: str) -> None:
    report = chaos.run(seed=11, seconds=20, requests=200, mode=mode)

    assert report["violations"] == [], report
    assert sum(report["deeds"].values()) >= 3  # each takes as long as the machine is busy
