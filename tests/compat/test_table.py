"""README says of each client what the suite found, in the versions that it installs."""

from __future__ import annotations

from tests.compat import table
from tests.compat.clients import TABLE


def test_readmes_table_is_what_the_suite_found() -> None:
    inside = table.README.read_text().partition(table.BEGIN)[2].partition(table.END)[0]

    assert inside == table.render(table.read()), (
        "`make compat` writes it; `python -m tests.compat.table` from its results"
    )


def test_a_row_is_of_the_version_and_the_calls_that_the_suite_makes_today() -> None:
    """A client without a row was not asked yet."""
    clients = {client.name: client for client in TABLE}

    for name, result in table.read().items():
        assert result["calls"] == list(clients[name].calls)
        assert result["version"] == (clients[name].version if clients[name].packages else result["version"])


def test_a_client_that_gave_up_was_told_why() -> None:
    for result in table.read().values():
        assert result["slow"]["answered"] or result["slow"]["error"]
