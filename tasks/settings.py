"""The settings: one frozen object, read once from the environment, complete or refused.

The only module that reads `os.environ`. Every setting but PORT and REDIS_URL carries the
prefix LLM_PROXY_; a secret may come from a file named by LLM_PROXY_<NAME>_FILE. A variable
with the prefix that is not a setting is refused: a typo must not silently mean a default.
"""

from __future__ import annotations

import difflib
import functools
import math
import os
import ssl
from base64 import b64decode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tasks.errors import SettingsError

PREFIX = "LLM_PROXY_"
#: What platforms set themselves, so it keeps its name.
PLATFORM = {"port": "PORT", "redis_url": "REDIS_URL"}
#: AF_UNIX paths hold 107 characters and a NUL.
SOCKET_PATH_LIMIT = 107
CERTIFICATE_CHECKS = {"required": ssl.CERT_REQUIRED, "optional": ssl.CERT_OPTIONAL, "none": ssl.CERT_NONE}


def _setting(default: Any, help: str, *, secret: bool = False) -> Any:
    return field(default=default, metadata={"help": help, "secret": secret}, repr=not secret)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Every setting with its unit in its name; `help` is what README's table says of it."""

    port: int = _setting(3030, "TCP port that the front listens on")
    redis_url: str = _setting(
        "",
        "`redis://`, `rediss://` or `unix://` URL; empty: an embedded Redis under the data directory",
        secret=True,
    )
    bind: str = _setting("127.0.0.1", "address that the front listens on")
    upstream: str = _setting("https://api.openai.com", "scheme and host of the upstream, without `/v1`")
    providers_file: str = _setting(
        "", "TOML file with further providers, and changes to the shipped ones: see docs/providers.md"
    )
    data_dir: Path = _setting(Path("var"), "directory of the embedded Redis and of generated keys")  # noqa: RUF009 - frozen
    max_hold_seconds: float = _setting(4.0, "how long the oldest request of a group waits for company")
    max_batch_requests: int = _setting(1000, "requests that close a batch (1 to 50000)")
    max_batch_mb: int = _setting(
        25, "megabytes of input file that close a batch (1 to 200); a larger line travels alone"
    )
    max_body_mb: int = _setting(25, "megabytes of one request body (1 to 190); more is answered 413")
    max_batches_per_hour: int = _setting(
        2000,
        "batches that one credential (with access tokens: one label) creates in an hour; as they run short, requests"
        " wait longer for company",
    )
    grace_seconds: float = _setting(
        0.0,
        "how long after acceptance a batch that is not done is cancelled and the rest of it sent by `FALLBACK`;"
        " 0: never. `X-Batch-Max-Wait` says it for one request",
    )
    fallback: str = _setting(
        "flex",
        "how the rest of a batch that was too late is sent: `flex` (half price; `standard` where it is not to be had),"
        " `standard` (full price) or `off` (answered 504)",
    )
    unbatchable: str = _setting(
        "sync",
        "what becomes of requests whose model or endpoint the upstream does not batch: `sync` (sent at full price)"
        " or `reject` (answered with the upstream's refusal)",
    )
    request_deadline_seconds: float = _setting(
        93_600.0, "every request is answered this long after acceptance, at the latest: with 504 if need be"
    )
    heartbeat_after_seconds: float = _setting(
        240.0, "when a waiting client is sent status 200 and a first byte, at the latest; 20 where `DYNO` is set"
    )
    heartbeat_seconds: float = _setting(25.0, "longest time between two bytes to a waiting client from then on")
    cancel_on_disconnect: bool = _setting(
        False, "whether a queued request without an `Idempotency-Key` is taken out when its client goes away"
    )
    result_ttl_seconds: int = _setting(172_800, "how long a reply can be fetched again after it was settled")
    poll_min_seconds: float = _setting(1.0, "shortest pause between two looks at a batch")
    poll_max_seconds: float = _setting(30.0, "longest pause between two looks at a batch")
    max_line_attempts: int = _setting(
        3, "how often a line that ends with 429 or 5xx is submitted, or a synchronous call tried, in all"
    )
    upstream_timeout_seconds: float = _setting(
        600.0, "longest silence of the upstream in a relayed call; longest time of a synchronous one"
    )
    sync_concurrency: int = _setting(50, "synchronous calls of one credential that run at the same time")
    webhook_secrets: tuple[str, ...] = _setting(
        (),
        "comma-separated `whsec_…` secrets that sign the upstream's calls to `/webhooks/openai`; empty: it is closed",
        secret=True,
    )
    max_waiting: int = _setting(
        100_000, "requests that wait for their answers, over all processes; more are answered 503"
    )
    web_processes: int = _setting(2, "gunicorn worker processes of the front")
    redis_max_connections: int = _setting(50, "connections of one process to Redis, beside Celery's own few")
    redis_tls_verify: str = _setting("required", "certificate check of `rediss://`: `required`, `optional` or `none`")
    vault_keys: tuple[str, ...] = _setting(
        (),
        "comma-separated Fernet keys, or secrets of 48 characters and more, that seal the callers' credentials:"
        " the first seals, all open; empty: generated into the data directory, allowed with the embedded Redis only",
        secret=True,
    )
    prices: str = _setting(
        "",
        "whose price list the upstream's usage is costed by, a provider of genai-prices such as `openai`; empty: by the"
        " upstream's host, and unknown where no list names it",
    )
    stats_token: str = _setting(
        "", "what `/stats`, `/metrics` and `/dashboard` want as `Authorization: Bearer …`; empty: open", secret=True
    )
    task_events: bool = _setting(
        False, "`true`: Flower shows each batched request as a task with its state and time, for 0.1 ms of CPU each"
    )
    log_format: str = _setting("text", "`text` (key=value) or `json`, one line per state change")
    access_tokens_file: str = _setting(
        "", "file of the access tokens that callers bring in place of a key; empty: they bring keys of their own"
    )
    upstream_key: str = _setting(
        "", "the upstream's key that callers with an access token share; set together with the file", secret=True
    )
    seal_bodies: bool = _setting(
        False, "whether prompts and answers are sealed in Redis, too, and not only keys; see SECURITY.md for its cost"
    )
    log_level: str = _setting("INFO", "`DEBUG`, `INFO`, `WARNING` or `ERROR`")

    def __post_init__(self) -> None:
        def need(ok: bool, name: str, what: str) -> None:
            if not ok:
                raise SettingsError(f"{variable(name)} must be {what}")

        upstream = urlsplit(self.upstream)
        need(upstream.scheme in {"http", "https"} and bool(upstream.hostname), "upstream", "an http(s) URL")
        need(
            not upstream.path.strip("/") and not upstream.query and upstream.username is None,
            "upstream",
            "scheme and host only: the path /v1 comes from the request",
        )
        need(0 < self.port < 65_536, "port", "a TCP port (1 to 65535)")
        need(1 <= self.max_batch_requests <= 50_000, "max_batch_requests", "1 to 50000")
        need(1 <= self.max_batch_mb <= 200, "max_batch_mb", "1 to 200")
        need(1 <= self.max_body_mb <= 190, "max_body_mb", "1 to 190")
        need(0 <= self.max_hold_seconds <= 3600, "max_hold_seconds", "0 to 3600")
        need(0 <= self.grace_seconds < math.inf, "grace_seconds", "0 or more")
        need(self.fallback in {"flex", "standard", "off"}, "fallback", "flex, standard or off")
        need(self.unbatchable in {"sync", "reject"}, "unbatchable", "sync or reject")
        need(
            bool(self.access_tokens_file) == bool(self.upstream_key),
            "access_tokens_file",
            "set together with LLM_PROXY_UPSTREAM_KEY: a key without tokens would serve everybody",
        )
        for secret in self.webhook_secrets:
            need(_is_webhook_secret(secret), "webhook_secrets", "whsec_ and base64 each, as the upstream shows it")
        need(0 < self.poll_min_seconds <= self.poll_max_seconds, "poll_min_seconds", "above 0 and at most POLL_MAX")
        need(self.log_format in {"text", "json"}, "log_format", "text or json")
        need(self.log_level in {"DEBUG", "INFO", "WARNING", "ERROR"}, "log_level", "DEBUG, INFO, WARNING or ERROR")
        need(self.redis_tls_verify in CERTIFICATE_CHECKS, "redis_tls_verify", "required, optional or none")
        if self.redis_url:
            scheme = urlsplit(self.redis_url).scheme
            need(scheme in {"redis", "rediss", "unix"}, "redis_url", "a redis://, rediss:// or unix:// URL")
        else:
            need(
                len(os.fsencode(self.socket_path)) <= SOCKET_PATH_LIMIT,
                "data_dir",
                f"shorter: the socket's path {self.socket_path} has more than {SOCKET_PATH_LIMIT} bytes",
            )
        for name in POSITIVE:
            need(0 < getattr(self, name) < math.inf, name, "a number above 0")

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Settings:
        """Build the settings from variables.

        Raises:
            SettingsError: a value cannot be read, or a variable with our prefix is no setting.
        """
        known = {variable(f.name): f for f in fields(cls)}
        # Heroku's router ends a request that has had no byte for 30 s.
        values: dict[str, Any] = {"heartbeat_after_seconds": 20.0} if environ.get("DYNO") else {}
        for name, f in known.items():
            text = _text(environ, name, secret=f.metadata["secret"])
            if text:
                try:
                    values[f.name] = PARSERS[str(f.type)](text)
                except ValueError:
                    raise SettingsError(f"{name}={text!r} is not a valid {f.type}") from None
        secrets = {f"{name}_FILE" for name, f in known.items() if f.metadata["secret"]}
        for name in environ:
            if name.startswith(PREFIX) and name not in known and name not in secrets:
                close = difflib.get_close_matches(name, [*known, *secrets], 1, 0.8)
                hint = f"did you mean {close[0]}? See" if close else "see"
                raise SettingsError(f"{name} is not a setting of llm-proxy: {hint} the table in README.md")
        return cls(**values)

    @property
    def upstream_host(self) -> str:
        """Under which name usage is summed."""
        return urlsplit(self.upstream).netloc

    @property
    def embedded(self) -> bool:
        """Whether `make run` brings its own Redis."""
        return not self.redis_url

    @property
    def upstream_authorization(self) -> str:
        """What the upstream sees of every caller with an access token."""
        return f"Bearer {self.upstream_key}"

    @property
    def socket_path(self) -> Path:
        """The embedded Redis listens here and on no port."""
        return self.data_dir.absolute() / "redis.sock"

    @property
    def redis(self) -> str:
        """URL for redis-py."""
        return self.redis_url or f"unix://{self.socket_path}"

    @property
    def celery_redis(self) -> str:
        """The same URL in kombu's spelling."""
        if self.redis.startswith("unix://"):
            return "redis+socket://" + self.redis.removeprefix("unix://").replace("?db=", "?virtual_host=")
        return self.redis

    @property
    def address(self) -> str:
        """`host:port` of the front; brackets around an IPv6 address."""
        return f"[{self.bind}]:{self.port}" if ":" in self.bind else f"{self.bind}:{self.port}"

    @property
    def redis_tls(self) -> dict[str, Any]:
        """`ssl_*` options for a `rediss://` URL, none for others; redis-py and Celery use the same names."""
        if not self.redis_url.startswith("rediss://"):
            return {}
        return {"ssl_cert_reqs": CERTIFICATE_CHECKS[self.redis_tls_verify]}


#: Must be above zero.
POSITIVE = (
    "max_batches_per_hour", "request_deadline_seconds", "heartbeat_after_seconds", "heartbeat_seconds",
    "result_ttl_seconds", "max_line_attempts", "upstream_timeout_seconds", "sync_concurrency", "max_waiting",
    "web_processes", "redis_max_connections",
)  # fmt: skip


def variable(name: str) -> str:
    """The environment variable of a field."""
    return PLATFORM.get(name) or PREFIX + name.upper()


def _text(environ: Mapping[str, str], name: str, *, secret: bool) -> str:
    path = environ.get(f"{name}_FILE") if secret else None
    if path is None:
        return environ.get(name, "").strip()
    try:
        return Path(path).read_text().strip()
    except OSError as error:
        raise SettingsError(f"{name}_FILE: cannot read {path}: {error.strerror}") from None


def _is_webhook_secret(secret: str) -> bool:
    try:
        return secret.startswith("whsec_") and bool(b64decode(secret.removeprefix("whsec_") + "==", validate=False))
    except ValueError:
        return False


def _words(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _flag(text: str) -> bool:
    if text.lower() not in {"true", "false"}:
        raise ValueError
    return text.lower() == "true"


PARSERS: dict[str, Callable[[str], Any]] = {
    "int": int, "float": float, "bool": _flag, "str": str, "Path": Path, "tuple[str, ...]": _words,
}  # fmt: skip


@functools.cache
def settings() -> Settings:
    """This process's settings, read from the environment at the first call."""
    return Settings.from_env(os.environ)
