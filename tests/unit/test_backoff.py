"""The pauses between tries."""

from __future__ import annotations

import random

import pytest

from tasks import backoff
from tasks.providers import http


def test_pauses_grow_and_stay_below_the_cap() -> None:
    assert 0.5 <= backoff.seconds(0) <= 1
    assert 4 <= backoff.seconds(3) <= 8
    assert 30 <= backoff.seconds(1000) <= 60


def test_retry_after_is_a_floor_but_not_without_end() -> None:
    assert backoff.seconds(0, 20) == 20
    assert backoff.seconds(0, 1e9) == backoff.RETRY_AFTER_CAP_SECONDS


def test_retry_after_is_read_as_number_and_as_date() -> None:
    assert http.retry_after("1.5") == 1.5
    assert http.retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0
    assert http.retry_after("soon") is None
    assert http.retry_after(None) is None


def test_a_pause_is_the_power_of_two_with_jitter_and_retry_after_of_nothing_asks_for_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(random, "uniform", lambda low, high: low)

    assert [backoff.seconds(n) for n in (0, 1, 5, 6, 10, 11)] == [0.5, 1, 16, 30, 30, 30]
    assert backoff.seconds(0, 0.25) == 0.5
