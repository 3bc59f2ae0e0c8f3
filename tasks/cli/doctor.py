"""`llm-proxy doctor`: looks at everything that must be right, and says how to mend what is not."""

from __future__ import annotations

import importlib.metadata
import platform
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from email.utils import parsedate_to_datetime
from typing import Final

import redis
import requests
import typer
from rich.markup import escape

from tasks import __version__, alerts, connections, open_files, overview, vault
from tasks.cli import output
from tasks.cli.output import AsJson
from tasks.errors import LlmProxyError, SettingsError
from tasks.settings import settings

OLDEST_REDIS: Final = (7, 0)
#: Redis' and the upstream's clock may differ from ours by so much: reservations and expiries go by them.
CLOCK_SECONDS: Final = 30.0
FILES: Final = 4096
PACKAGES: Final = ("celery", "gevent", "gunicorn", "redis", "genai-prices")


@dataclass(frozen=True)
class Finding:
    """What one look found; `mend` says what to do about it."""

    name: str
    ok: bool
    found: str
    mend: str = ""


def doctor(json: AsJson = False) -> None:
    """Check Redis, versions, vault key, upstream, clocks and limits; exit code 1 when something is wrong."""
    findings = list(examine())
    if json:
        output.as_json([asdict(finding) for finding in findings])
    else:
        for finding in findings:
            mark = "[green]ok  [/green]" if finding.ok else "[bold red]BAD [/bold red]"
            output.console.print(f"{mark} {finding.name:18} {escape(finding.found)}", soft_wrap=True)
            if not finding.ok:
                output.console.print(f"{'':23} [yellow]→ {escape(finding.mend)}[/yellow]", soft_wrap=True)
    raise typer.Exit(0 if all(finding.ok for finding in findings) else 1)


def examine() -> Iterator[Finding]:
    """One look after the other; one that fails in an unforeseen way is a finding, too."""
    looks: tuple[Callable[[], Iterator[Finding]], ...] = (_versions, _files, _vault, _redis, _pipeline, _upstream)
    for look in looks:
        try:
            yield from look()
        except redis.RedisError as error:
            yield Finding(
                look.__name__.strip("_"), False, connections.complaint(error), "start Redis, or mend REDIS_URL"
            )
        except LlmProxyError as error:
            yield Finding(look.__name__.strip("_"), False, str(error), "see above")


def _versions() -> Iterator[Finding]:
    packages = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
    found = f"llm-proxy {__version__}, Python {platform.python_version()}, {packages}"
    ok = sys.version_info >= (3, 11)
    yield Finding("versions", ok, found, "install Python 3.11 or newer")


def _files() -> Iterator[Finding]:
    possible = open_files.possible()
    many = possible >= min(FILES, settings().max_waiting)
    mend = f"each held client is one: ulimit -Hn {settings().max_waiting + 1000}"
    yield Finding("open files", many, f"{possible} per process", mend)


def _vault() -> Iterator[Finding]:
    try:
        vault.build(settings())
    except SettingsError as error:
        mend = "llm-proxy up generates it" if settings().embedded else "set LLM_PROXY_VAULT_KEYS as it says"
        yield Finding("vault key", False, str(error), mend)
    else:
        yield Finding("vault key", True, "there, and usable")


def _redis() -> Iterator[Finding]:
    client = connections.client()
    began = time.time()
    server = client.info("server")
    took = (time.time() - began) * 1000
    version = tuple(int(part) for part in str(server["redis_version"]).split(".")[:2])
    yield Finding(
        "redis", version >= OLDEST_REDIS, f"{server['redis_version']}, {took:.1f} ms away", "Redis 7 or newer is needed"
    )
    persistence = client.info("persistence")
    aof = bool(persistence.get("aof_enabled"))
    fsync = _config("appendfsync")
    durable = aof and fsync in {"always", ""}
    shown = f"append-only file {'on' if aof else 'off'}, appendfsync {fsync or 'unknown'}"
    yield Finding(
        "durability",
        durable,
        shown,
        "redis-cli CONFIG SET appendonly yes; CONFIG SET appendfsync always; and in redis.conf",
    )
    written = persistence.get("aof_last_write_status", "ok")
    yield Finding("last write", written == "ok", str(written), "the disk of Redis is full or broken: see its log")
    memory = client.info("memory")
    policy = str(memory.get("maxmemory_policy", "noeviction"))
    yield Finding("eviction", policy == "noeviction", policy, "redis-cli CONFIG SET maxmemory-policy noeviction")
    most = int(memory.get("maxmemory") or 0)
    part = int(memory["used_memory"]) / most if most else 0.0
    shown = f"{part:.0%} of maxmemory" if most else "no maxmemory"
    yield Finding("memory", part < alerts.FULL, shown, "raise maxmemory: above 85 % requests are refused")
    seconds, micros = client.time()
    apart = abs(seconds + micros / 1e6 - time.time())
    yield Finding("clock of Redis", apart < CLOCK_SECONDS, f"{apart:.1f} s apart", "run NTP on both machines")


def _config(name: str) -> str:
    """Empty where a managed Redis does not tell."""
    try:
        return str(connections.client().config_get(name).get(name, ""))
    except redis.ResponseError:
        return ""


def _pipeline() -> Iterator[Finding]:
    found = alerts.alerts(overview.read())
    yield Finding(
        "pipeline",
        not found,
        " ".join(found) or "ticks, and leaves nothing alone",
        "docs/operations.md says what each means",
    )


def _upstream() -> Iterator[Finding]:
    url = f"{settings().upstream}/v1/models"
    key = settings().upstream_key
    headers = {"Authorization": settings().upstream_authorization} if key else {}
    try:
        answer = requests.get(url, headers=headers, timeout=10)
    except requests.RequestException as error:
        yield Finding(
            "upstream", False, f"{url}: {type(error).__name__}", "check LLM_PROXY_UPSTREAM, DNS and the firewall"
        )
        return
    # Without a key it ought to answer 401; that it answers is what counts.
    yield Finding(
        "upstream", answer.status_code < 500, f"{url} answers {answer.status_code}", "wait, or see its status page"
    )
    if key:
        mend = "set LLM_PROXY_UPSTREAM_KEY to a key that it accepts"
        yield Finding("upstream's key", answer.ok, f"the upstream answers {answer.status_code} to it", mend)
    if answer.headers.get("Date"):
        apart = abs(parsedate_to_datetime(answer.headers["Date"]).timestamp() - time.time())
        yield Finding("our clock", apart < CLOCK_SECONDS, f"{apart:.0f} s from the upstream's", "run NTP")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(doctor)
