"""Commands that show something: figures, batches, one request, and all of it live."""

from __future__ import annotations

import time
from json import dumps
from typing import Annotated, Any

import typer
from rich.console import Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.text import Text

from tasks import alerts, connections, control, overview, settle, spending, store, words
from tasks.cli import output
from tasks.cli.output import AsJson

REFRESH_SECONDS = 1.0
BATCHES = 20

requests = typer.Typer(help="Look at single requests.", no_args_is_help=True)


def stats(
    by: Annotated[str, typer.Option(help="Usage by model, day or credential.")] = "model", json: AsJson = False
) -> None:
    """Print what /stats says."""
    if by not in spending.BY:
        raise output.fail(f"--by must be one of {', '.join(spending.BY)}", 2)
    seen, rows = overview.read(), overview.usage_by(by)
    if json:
        output.as_json({**seen, "usage": {**seen["usage"], "by": by, "rows": rows}})
        return
    output.console.print(_head(seen))
    output.console.print(_usage(by, rows))


def batches(json: AsJson = False) -> None:
    """Print the batches in flight."""
    seen = overview.read()["in_flight"]
    if json:
        output.as_json(seen)
        return
    output.console.print(_batches(seen["by_batch"]))


@requests.command("show")
def show_request(
    request_id: Annotated[str, typer.Argument(help="What x-batch-task-id said.")], json: AsJson = False
) -> None:
    """Print a request's state, and its reply once there is one."""
    kind, record = control.find(request_id)
    if kind != "request":
        raise output.fail(f"there is no request {request_id}: it was never accepted, or its reply has expired")
    found: dict[str, Any] = {name: value for name, value in record.items() if name != "idempotency"}
    stored = connections.client().get(store.RESULT_PREFIX + request_id)
    if stored:
        reply = settle.decode(stored, request_id)
        found["reply"] = {
            "status": reply.status,
            "headers": reply.headers,
            "body": reply.body.decode(errors="replace"),
        }
    if json:
        output.as_json(found)
        return
    for name, value in found.items():
        if name != "reply":
            output.console.print(f"[dim]{name:12}[/dim] ", Text(value), sep="")
    if stored:
        output.console.print(f"[dim]{'reply':12}[/dim] {found['reply']['status']}")
        typer.echo(found["reply"]["body"])


def top(as_json: Annotated[bool, typer.Option("--json", help="Print a line of JSON each second.")] = False) -> None:
    """Watch it live, Ctrl-C ends it; once, where the output is no terminal."""
    if not as_json and not output.console.is_terminal:
        output.console.print(_screen(overview.read()))
        return
    try:
        while as_json:
            typer.echo(dumps(overview.read()))
            time.sleep(REFRESH_SECONDS)
        with Live(console=output.console, screen=True, auto_refresh=False) as live:
            while True:
                live.update(_screen(overview.read()), refresh=True)
                time.sleep(REFRESH_SECONDS)
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


def _screen(seen: dict[str, Any]) -> Group:
    parts: list[Any] = [Text(alert, style="bold yellow") for alert in alerts.alerts(seen)]
    parts += [_head(seen), Text(), _batches(seen["in_flight"]["by_batch"]), Text()]
    groups = seen["queued"]["by_group"]
    if groups:
        rows = [
            (group["group"], group["model"], words.count(group["requests"]), words.span(group["age_seconds"]))
            for group in groups[:8]
        ]
        parts += [output.table(("queued in group", "model", ">requests", ">oldest"), rows), Text()]
    failures = [
        (words.clock(one["at_ms"]), one["status"], one["reason"], one["model"], one["count"])
        for one in seen["failures"][:8]
    ]
    if failures:
        parts.append(output.table(("failed, UTC", ">status", "reason", "model", ">requests"), failures))
    return Group(*parts)


def _head(seen: dict[str, Any]) -> Any:
    usage, done = seen["usage"], seen["requests"]
    return output.table(
        (">waiting", ">queued", ">in flight", ">answered", ">failed", ">median", ">95 %", ">paid", ">saved in 30 d"),
        [
            (
                words.count(seen["waiting"]),
                words.count(seen["queued"]["requests"]),
                words.count(seen["in_flight"]["requests"]),
                words.count(done["successful"] + done["failed"]),
                words.count(done["failed"]),
                words.span(done["p50_time_ms"] / 1000),
                words.span(done["p95_time_ms"] / 1000),
                words.usd(usage["cost_usd"]),
                words.usd(usage["savings_usd"]) + ("" if usage["price_known"] else ", some unknown"),
            )
        ],
    )


def _batches(by_batch: list[dict[str, Any]]) -> Any:
    if not by_batch:
        return Text("No batch is in flight.", style="dim")
    rows = [
        (
            batch["batch"],
            batch["model"],
            ProgressBar(total=max(1, batch["total"]), completed=batch["completed"] + batch["failed"], width=24),
            f"{batch['completed'] + batch['failed']}/{batch['total']}",
            words.count(batch["failed"]),
            "canceled" if batch["canceled"] else batch["upstream_status"] or batch["state"],
            words.span(batch["age_seconds"]),
            words.span(batch["expected_seconds"]),
        )
        for batch in by_batch[:BATCHES]
    ]
    columns = ("batch", "model", "progress", ">done", ">failed", "state", ">age", ">to go")
    return output.table(columns, rows)


def _usage(by: str, rows: list[dict[str, Any]]) -> Any:
    return output.table(
        (by, ">answers", ">tokens in", ">cached", ">out", ">paid", ">saved"),
        [
            (
                row[by],
                words.count(row["requests"]),
                words.short(row["input_tokens"]),
                words.short(row["cached_tokens"]),
                words.short(row["output_tokens"]),
                words.usd(row["cost_usd"]) if row["price_known"] else "unknown",
                words.usd(row["savings_usd"]) if row["price_known"] else "",
            )
            for row in rows
        ],
    )


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(top)
    app.command()(stats)
    app.command()(batches)
    app.add_typer(requests, name="requests")
