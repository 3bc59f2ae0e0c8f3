"""Commands that run something: the stack, a part of it, the demo."""

from __future__ import annotations

import importlib.util
import runpy

import typer
from cryptography.fernet import Fernet

from tasks import access, stack
from tasks.cli import output
from tasks.cli.output import AsJson


def up() -> None:
    """Run web, worker, beat and, unless REDIS_URL is set, Redis: what `make run` runs."""
    raise typer.Exit(stack.run_all())


def worker() -> None:
    """Run the Celery workers of all lanes."""
    raise typer.Exit(stack.run_workers())


def vault_key(json: AsJson = False) -> None:
    """Print a new key for LLM_PROXY_VAULT_KEYS."""
    key = Fernet.generate_key().decode()
    if json:
        output.as_json({"vault_key": key})
    else:
        typer.echo(key)


def access_token(label: str, json: AsJson = False) -> None:
    """Make an access token, and its line for LLM_PROXY_ACCESS_TOKENS_FILE."""
    try:
        token, line = access.make(label)
    except ValueError as error:
        raise output.fail(str(error)) from None
    if json:
        output.as_json({"token": token, "line": line})
    else:
        typer.echo(f"token, for the caller:  {token}\nline, for the file:     {line}")


def demo() -> None:
    """Show everything at work against a simulated upstream: no key, no bill."""
    if importlib.util.find_spec("tests.simulator") is None or importlib.util.find_spec("examples.demo") is None:
        raise output.fail("the demo lives in a checkout of the project: run it there")
    runpy.run_module("examples.demo", run_name="__main__")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(up)
    app.command()(worker)
    app.command("vault-key")(vault_key)
    app.command("access-token")(access_token)
    app.command()(demo)
