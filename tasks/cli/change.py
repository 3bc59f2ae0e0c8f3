"""Commands that change something: pause, resume, cancel."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from tasks import control
from tasks.cli import output
from tasks.cli.output import AsJson


def pause(json: AsJson = False) -> None:
    """Stop submitting, keep accepting; batches in flight and synchronous calls go on."""
    control.pause()
    _say({"paused": True}, "paused: requests are accepted and wait; llm-proxy resume ends it", json)


def resume(json: AsJson = False) -> None:
    """Submit again."""
    control.resume()
    _say({"paused": False}, "resumed: what waits is submitted with the next tick", json)


def cancel(
    name: Annotated[str, typer.Argument(help="A request, or a batch by our id or the upstream's.")] = "",
    group: Annotated[str, typer.Option(help="Everything of one group, as /stats names it.")] = "",
    everything: Annotated[bool, typer.Option("--all", help="Everything queued and in flight.")] = False,
    json: AsJson = False,
) -> None:
    """Cancel: what is answered stays answered, the rest is answered with status 499 and code `canceled`."""
    if bool(name) + bool(group) + everything != 1:
        raise output.fail("name one request or batch, or --group, or --all", 2)
    found = control.cancel_all() if everything else control.cancel_group(group) if group else _cancel_one(name)
    words = f"canceled {found['requests']} queued requests and {found['batches']} batches"
    _say(found, words + (" (a batch ends when the upstream has stopped it)" if found["batches"] else ""), json)


def _cancel_one(name: str) -> dict[str, int]:
    kind, record = control.find(name)
    if kind == "batch":
        if not control.cancel_batch(record["id"]):
            raise output.fail(f"batch {record['id']} is {record['state']}: its results are being delivered")
        return {"requests": 0, "batches": 1}
    if kind == "request":
        if control.cancel_request(record["id"]):
            return {"requests": 1, "batches": 0}
        why = {
            "batched": f"it is a line of batch {record.get('owner')}, which can be canceled as a whole",
            "running": "it is being sent synchronously, and paid",
            "settled": "it is answered",
        }
        raise output.fail(f"request {record['id']} cannot be canceled: {why.get(record['state'], record['state'])}")
    raise output.fail(f"there is no request and no batch {name}")


def _say(value: dict[str, Any], sentence: str, as_json: bool) -> None:
    if as_json:
        output.as_json(value)
    else:
        typer.echo(f"llm-proxy: {sentence}")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(pause)
    app.command()(resume)
    app.command()(cancel)
