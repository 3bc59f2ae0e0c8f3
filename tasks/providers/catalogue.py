"""The providers, as data: providers.toml, and over it the operator's own file. Read once; a wrong file is refused.

A provider of a known dialect needs a block in the file and no code.
"""

from __future__ import annotations

import functools
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import urlsplit

import msgspec

from tasks.errors import SettingsError
from tasks.settings import Settings, settings, variable

SHIPPED: Final = Path(__file__).with_name("providers.toml")
#: The endpoints that each dialect can batch, by the names that groups carry.
ENDPOINTS: Final[dict[str, tuple[str, ...]]] = {
    "openai": ("/v1/chat/completions", "/v1/embeddings", "/v1/responses", "/v1/completions", "/v1/moderations"),
    "anthropic": ("/v1/messages",),
    "gemini": ("generateContent", "streamGenerateContent", "embedContent", "batchEmbedContents"),
}
#: Paths of our own.
RESERVED: Final = ("/stats", "/healthz", "/readyz", "/metrics", "/dashboard", "/webhooks", "/openapi.json")
#: What Google takes in one "create".
INLINE_MB: Final = 20
PLACEHOLDERS: Final = frozenset({"file", "endpoint", "model", "window", "marker"})
#: Where a batch object has what the pipeline asks for, unless `fields` says otherwise.
FIELDS: Final = {
    "id": "id",
    "status": "status",
    "created_at": "created_at",
    "input_file_id": "input_file_id",
    "output_file_id": "output_file_id",
    "error_file_id": "error_file_id",
    "errors": "errors",
    "marker": "metadata.llm_proxy_batch",
    "total": "request_counts.total",
    "completed": "request_counts.completed",
    "failed": "request_counts.failed",
}
CREATE: Final[dict[str, Any]] = {
    "input_file_id": "{file}",
    "endpoint": "{endpoint}",
    "completion_window": "{window}",
    "metadata": {"llm_proxy_batch": "{marker}"},
}


class Provider(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One block of the file.

    Attributes:
        mount: the path under which the proxy serves it.
        base_url: what stands in place of `mount` at the provider; empty: it is closed.
        root: path between `mount` and an operation such as /files.
        roots: others that are served as well, such as another version: what comes by one goes by it.
        endpoints: what is batched; everything else is relayed.
        path: where an endpoint is found after `mount` and `root`, from {endpoint} (without /v1) and {model}.
        auth: request headers that may carry the caller's key, the first one that is there.
        headers, query: request headers and query parameters that a batch carries for all of its lines.
        mixed_models: one batch may hold several models.
        max_requests, max_mb: what the provider takes in one batch.
        flex: it knows `service_tier: flex` at half price.
        inline: (gemini) "create" carries the requests; then max_mb must be below 20.
        files: whose way files are moved; "gemini" is Google's resumable upload at `files_url`.
        upload: form fields of an upload beside the file.
        jobs: path of the batches.
        create: body of a "create"; {file}, {endpoint}, {model}, {window} and {marker} (our id) are filled in.
        completion_window: what {window} is.
        line_url: the `url` of a line, and {endpoint} above, from {endpoint} (without /v1).
        bare_lines: a line is `custom_id` and `body` only.
        wrapper: member in which answers keep the batch object, where they do.
        fields: where the batch object has what is elsewhere called otherwise: see FIELDS; dots go deeper.
        statuses: status strings, in lower case, that are OpenAI's under another name.
        list_query: query parameters of the list of batches.
        list_page: the parameter that numbers a list's pages from 0, where they do not follow by `after`.
        poll_min_seconds: the shortest pause between two looks that the provider bears.
    """

    name: str
    mount: str
    dialect: Literal["openai", "anthropic", "gemini"] = "openai"
    base_url: str = ""
    root: str = ""
    roots: tuple[str, ...] = ()
    endpoints: tuple[str, ...] = ("/v1/chat/completions",)
    path: str = "{endpoint}"
    auth: tuple[str, ...] = ("authorization",)
    headers: tuple[str, ...] = ()
    query: tuple[str, ...] = ()
    mixed_models: bool = False
    max_requests: int = 50_000
    max_mb: int = 200
    flex: bool = False
    inline: bool = False
    files: Literal["openai", "gemini"] = "openai"
    files_url: str = ""
    upload: dict[str, str] = msgspec.field(default_factory=lambda: {"purpose": "batch"})
    jobs: str = "/batches"
    create: dict[str, Any] = msgspec.field(default_factory=lambda: CREATE)
    completion_window: str = "24h"
    line_url: str = "/v1{endpoint}"
    bare_lines: bool = False
    wrapper: str = ""
    fields: dict[str, str] = {}
    statuses: dict[str, str] = {}
    list_query: dict[str, str | int] = msgspec.field(default_factory=lambda: {"limit": 100})
    list_page: str = ""
    poll_min_seconds: float = 0.0

    @property
    def open(self) -> bool:
        """Whether it has an address."""
        return bool(self.base_url)

    def operation(self, endpoint: str, model: str, root: str) -> str:
        """The path of an endpoint, after `base_url`."""
        return root + self.path.format(endpoint=endpoint.removeprefix("/v1"), model=model)

    def field(self, name: str) -> str:
        """Where a batch object has it."""
        return self.fields.get(name, FIELDS[name])


Providers = Mapping[str, Provider]


@functools.cache
def providers() -> Providers:
    """This process's providers, by name."""
    return build(settings())


def build(config: Settings) -> Providers:
    """Read the shipped file and the operator's own.

    Raises:
        SettingsError: the own file cannot be used; with its line.
    """
    shipped = tomllib.loads(SHIPPED.read_text())
    shipped["openai"]["base_url"] = config.upstream.rstrip("/")
    path, text = config.providers_file, ""
    own: dict[str, Any] = {}
    if path:
        text, own = _read(path)
    found: dict[str, Provider] = {}
    for name in {**shipped, **own}:
        try:
            block = own.get(name, {})
            if not isinstance(block, dict):
                raise _Wrong("", "a provider is a table: [name]")
            found[name] = _provider(name, {**shipped.get(name, {}), **block})
            _check_mount(found[name], (other for other in found.values() if other.name != name))
        except _Wrong as error:
            line = _line(text, name, error.key)
            raise SettingsError(f"{variable('providers_file')}: {path}, line {line}: [{name}] {error}") from None
    return found


def mounted(known: Providers, path: str) -> Provider:
    """The provider that serves a path: the one with the longest mount."""
    fitting = (p for p in known.values() if path == p.mount or path.startswith(f"{p.mount}/"))
    return max(fitting, key=lambda provider: len(provider.mount), default=known["openai"])


class _Wrong(Exception):
    """What is wrong with a block, at which of its keys."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key = key


def _read(path: str) -> tuple[str, dict[str, Any]]:
    where = f"{variable('providers_file')}: {path}"
    try:
        text = Path(path).read_text()
        return text, tomllib.loads(text)
    except OSError as error:
        raise SettingsError(f"{where}: {error.strerror}") from None
    except tomllib.TOMLDecodeError as error:  # it names the line itself
        raise SettingsError(f"{where}: {error}") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{where}: it is not UTF-8") from None


def _provider(name: str, block: dict[str, Any]) -> Provider:
    try:
        made = msgspec.convert({"name": name, **block}, Provider)
    except msgspec.ValidationError as error:
        named = re.search(r"`\$\.([^.\[`]+)|field `([^`]+)`", str(error))
        raise _Wrong((named[1] or named[2]) if named else "", str(error)) from None
    if made.name != name or not re.fullmatch(r"[a-z0-9][a-z0-9-]*", name):
        raise _Wrong("", "a provider's name is lower case letters, digits and hyphens")
    url = urlsplit(made.base_url)
    if made.base_url and (url.scheme not in {"http", "https"} or not url.hostname or url.query or url.fragment):
        raise _Wrong("base_url", "base_url must be an http(s) URL")
    for key in ("base_url", "files_url", "root"):
        if getattr(made, key).endswith("/"):
            raise _Wrong(key, f"{key} must not end with a slash")
    for endpoint in made.endpoints:
        if endpoint not in ENDPOINTS[made.dialect]:
            known = ", ".join(ENDPOINTS[made.dialect])
            raise _Wrong("endpoints", f"the dialect {made.dialect} batches {known}, not {endpoint}")
    for key in made.fields:
        if key not in FIELDS:
            raise _Wrong("fields", f"fields has {key!r}, which is none of {', '.join(FIELDS)}")
    for key, allowed in (("path", {"endpoint", "model"}), ("line_url", {"endpoint"}), ("create", PLACEHOLDERS)):
        for found in re.findall(r"\{([^{}]*)\}", _text(getattr(made, key))):
            if found not in allowed:
                raise _Wrong(key, f"{key} has {{{found}}}, which is none of {', '.join(sorted(allowed))}")
    if made.max_requests < 1 or made.max_mb < 1:
        raise _Wrong("max_requests" if made.max_requests < 1 else "max_mb", "limits must be above 0")
    if made.inline and (made.dialect != "gemini" or made.max_mb >= INLINE_MB):
        raise _Wrong("inline", f'inline is for dialect = "gemini" and a max_mb below {INLINE_MB}')
    if made.files == "gemini" and not urlsplit(made.files_url).hostname:
        raise _Wrong("files", 'files = "gemini" needs files_url')
    return made


def _text(value: Any) -> str:
    """All strings in a template, one after the other."""
    if isinstance(value, dict):
        return " ".join(map(_text, value.values()))
    if isinstance(value, list):
        return " ".join(map(_text, value))
    return str(value)


def _check_mount(made: Provider, others: Iterable[Provider]) -> None:
    mount = made.mount
    if made.name == "openai":
        if mount:
            raise _Wrong("mount", "openai stays where it is, at /v1")
        return
    if not re.fullmatch(r"(/[A-Za-z0-9._~-]+)+", mount):
        raise _Wrong("mount", "mount must be a path such as /acme/v1, without a slash at its end")
    if mount.split("/")[1] == "v1" or mount.startswith(RESERVED):
        raise _Wrong("mount", f"mount {mount} is taken by the proxy itself")
    for other in others:
        if other.mount == mount:
            raise _Wrong("mount", f"mount {mount} is taken by [{other.name}]")


def _line(text: str, name: str, key: str) -> int:
    """The line of a key in a block, of the block if it has no such key, else 1."""
    number = 1
    inside = False
    for count, line in enumerate(text.splitlines(), 1):
        header = re.match(r"\s*\[\s*\"?([^\]\".]+)\"?\s*(?:\.\s*\"?([^\]\"]+?)\"?\s*)?\]", line)
        if header:
            inside = header[1].strip() == name
            if inside and (number == 1 or (key and header[2] == key)):
                number = count
        elif inside and key and re.match(rf"\s*\"?{re.escape(key)}\"?\s*[.=]", line):
            return count
        elif not header and re.match(rf"\s*\"?{re.escape(name)}\"?\s*[.=]", line) and number == 1:
            number = count
    return number


def fill(template: Any, values: Mapping[str, str]) -> Any:
    """A template with its placeholders filled in."""
    if isinstance(template, dict):
        return {key: fill(value, values) for key, value in template.items()}
    if isinstance(template, list):
        return [fill(value, values) for value in template]
    if isinstance(template, str):
        return re.sub(r"\{([a-z]+)\}", lambda found: values[found[1]], template)
    return template
