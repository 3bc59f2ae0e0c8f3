"""What headers say of a caller's patience."""

from __future__ import annotations

import pytest
from werkzeug.datastructures import Headers

from tasks.settings import Settings
from web import clients

PYTHON = {"x-stainless-lang": "python", "x-stainless-package-version": "3.54.0"}
NODE_7 = {"x-stainless-lang": "js", "x-stainless-package-version": "7.57.0"}


@pytest.mark.parametrize(
    ("headers", "first", "next_"),
    [
        ({}, 240, 25),
        ({"x-stainless-read-timeout": "600.0"}, 240, 25),
        ({"x-stainless-read-timeout": "100"}, 80, 25),
        ({"x-stainless-read-timeout": "10"}, 8, 8),
        ({"x-stainless-timeout": "60"}, 48, 25),
        ({"x-stainless-read-timeout": "None"}, 240, 25),
        ({"x-stainless-read-timeout": "nan"}, 240, 25),
        ({"x-stainless-read-timeout": "-1"}, 240, 25),
    ],
)
def test_the_callers_own_timeout_counts_when_it_is_shorter(headers: dict[str, str], first: float, next_: float) -> None:
    patience = clients.patience(Headers(headers), Settings())

    assert (patience.first_seconds, patience.next_seconds) == (first, next_)


def test_where_dyno_is_set_the_first_sign_of_life_comes_before_herokus_router_cuts() -> None:
    assert Settings.from_env({"DYNO": "web.1"}).heartbeat_after_seconds == 20
    own = Settings.from_env({"DYNO": "web.1", "LLM_PROXY_HEARTBEAT_AFTER_SECONDS": "9"})
    assert own.heartbeat_after_seconds == 9


@pytest.mark.parametrize(
    ("headers", "hasty"),
    [
        ({**NODE_7, "x-stainless-retry-count": "2"}, True),
        ({**NODE_7, "x-stainless-retry-count": "1"}, False),
        ({**NODE_7, "x-stainless-retry-count": "2", "x-stainless-timeout": "86400"}, False),
        ({**NODE_7, "x-stainless-package-version": "6.49.0", "x-stainless-retry-count": "2"}, False),
        ({**PYTHON, "x-stainless-package-version": "7.0.0", "x-stainless-retry-count": "2"}, False),
        ({**NODE_7, "x-stainless-package-version": "9" * 5000, "x-stainless-retry-count": "2"}, False),
        ({**NODE_7, "x-stainless-package-version": "7", "x-stainless-retry-count": "9" * 5000}, False),
        ({**NODE_7, "x-stainless-package-version": "\u0667.1", "x-stainless-retry-count": "2"}, True),
    ],
)
def test_only_nodes_last_attempt_with_a_timeout_of_its_own_is_hasty(headers: dict[str, str], hasty: bool) -> None:
    assert clients.patience(Headers(headers), Settings()).hasty is hasty


@pytest.mark.parametrize(("count", "tries"), [("", 0), ("0", 0), ("1", 1), ("2", 2), ("x", 0), ("-1", 0)])
def test_a_retry_is_what_the_sdk_calls_one(count: str, tries: int) -> None:
    assert clients.tries(Headers({"x-stainless-retry-count": count})) == tries
