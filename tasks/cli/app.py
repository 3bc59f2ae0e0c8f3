"""The command `llm-proxy`, which is `python -m tasks`, too: run it, look at it, steer it.

It speaks to Redis directly, with the settings of the stack, and needs no running front.
"""

from __future__ import annotations

from typing import Annotated

import redis
import typer

from tasks import __version__, connections
from tasks.cli import change, doctor, run, show
from tasks.errors import LlmProxyError, SettingsError, StoreUnavailable

app = typer.Typer(
    name="llm-proxy",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for module in (run, show, change, doctor):
    module.register(app)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"llm-proxy {__version__}")
        raise typer.Exit


@app.callback()
def llm_proxy(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    """The half-price lane for LLM traffic."""


def main(arguments: list[str] | None = None) -> int:
    """Run one command; what is wrong with the settings or with Redis is one sentence."""
    try:
        app(arguments, prog_name="llm-proxy")
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    except SettingsError as error:
        typer.echo(f"llm-proxy: {error}", err=True)
        return 2
    except (redis.RedisError, StoreUnavailable) as error:
        said = connections.complaint(error)
        typer.echo(f"llm-proxy: Redis is away or refuses ({said}): is the stack running? See REDIS_URL.", err=True)
        return 1
    except LlmProxyError as error:
        typer.echo(f"llm-proxy: {error}", err=True)
        return 1
    return 0
