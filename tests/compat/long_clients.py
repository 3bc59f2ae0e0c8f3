"""Every client, with nothing changed but its base URL: its calls, an error, and a batch that outlasts its patience."""

from __future__ import annotations

from typing import Any

import pytest

from tests.compat import table
from tests.compat.asking import Asking
from tests.compat.clients import TABLE, Client

TIMEOUT_SECONDS, ENOUGH_SECONDS = 4, 120
REFUSAL = "Simulated invalid request"


@pytest.mark.timeout(900)
@pytest.mark.parametrize("client", TABLE, ids=lambda client: client.name)
def test_a_client_gets_its_answers_by_its_base_url_and_each_is_one_paid_line(
    quick: Asking, slow: Asking, client: Client
) -> None:
    calls = [*client.calls, "error"]
    told = quick.run(client, f"sk-{client.name}", calls)

    assert {name: wanted for name, wanted in client.calls.items() if wanted in told.calls[name].get("answer", "")} == (
        client.calls
    ), told.calls
    assert REFUSAL in told.calls["error"].get("error", ""), told.calls["error"]
    assert (told.attempts, told.paid) == (len(calls), len(calls))

    result: dict[str, Any] = {"version": table.version(client), "calls": list(client.calls)}
    result["slow"] = _outlast(slow, client, "slow", TIMEOUT_SECONDS if client.patience else 0)
    if client.limit:
        result["limited"] = _outlast(slow, client, "limited", TIMEOUT_SECONDS)
    table.keep(client.name, result)


def _outlast(slow: Asking, client: Client, kind: str, timeout_seconds: float) -> dict[str, Any]:
    """What a client does when its batch takes longer than it waits; asked again with time enough it has its answer."""
    key = f"sk-{client.name}-{kind}"
    told = slow.run(client, key, ["slow"], timeout_seconds)
    answered = client.slow in told.calls["slow"].get("answer", "")
    if not answered:
        again = slow.run(client, key, ["slow"], ENOUGH_SECONDS)
        assert client.slow in again.calls["slow"].get("answer", ""), again.calls
    assert slow.paid(key) == 1
    return {"answered": answered, "attempts": told.attempts, "error": told.calls["slow"].get("error")}
