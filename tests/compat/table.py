"""docs/compatibility.json, and README's table made from it: `python -m tests.compat.table` writes the table anew."""

from __future__ import annotations

import json
import subprocess
from typing import Any, Final

from tests.compat.clients import TABLE, Client
from tests.running import ROOT

RESULTS: Final = ROOT / "docs" / "compatibility.json"
README: Final = ROOT / "README.md"
BEGIN, END = "<!-- compatibility -->\n", "<!-- /compatibility -->\n"


def version(client: Client) -> str:
    """As pinned; of a program of the machine, as it says itself."""
    if client.packages:
        return client.version
    done = subprocess.run([client.name, "--version"], capture_output=True, text=True, check=True)
    return done.stdout.split()[1]


def read() -> dict[str, dict[str, Any]]:
    """What the suite has found, by client."""
    found: dict[str, dict[str, Any]] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    return found


def keep(name: str, result: dict[str, Any]) -> None:
    """Write down what one client did."""
    RESULTS.write_text(json.dumps(read() | {name: result}, indent=1, sort_keys=True) + "\n")


def write() -> None:
    """Make README's table anew."""
    head, _, rest = README.read_text().partition(BEGIN)
    README.write_text(f"{head}{BEGIN}{render(read())}{END}{rest.partition(END)[2]}")


def render(results: dict[str, dict[str, Any]]) -> str:
    """The table, a row for each client in the order in which they are listed."""
    rows = [
        "| client | version | tested | what to change | its own timeout | a batch that outlasts it |",
        "|---|---|---|---|---|---|",
    ]
    for client in TABLE:
        if result := results.get(client.name):
            tested = ", ".join([*result["calls"], "error"])
            change = client.base_url + (f"; {client.note}" if client.note else "")
            cells = (client.label, result["version"], tested, change, client.patience or "none", _slow(client, result))
            rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def _slow(client: Client, result: dict[str, Any]) -> str:
    """What happened, in words."""
    told = _word(result["slow"])
    if "limited" in result:
        told += f"; with {client.limit}: {_word(result['limited'])}"
    return told


def _word(outcome: dict[str, Any]) -> str:
    attempts = outcome["attempts"]
    if outcome["answered"]:
        return "waits" if attempts == 1 else f"comes again ({attempts} attempts) and is answered"
    times = "one attempt" if attempts == 1 else f"{attempts} attempts"
    return f"gives up after {times}; sent again, it finds its answer"


if __name__ == "__main__":
    write()
