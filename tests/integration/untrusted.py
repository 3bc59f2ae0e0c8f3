"""An upstream of bare sockets that answers whatever it is told, and each call of each dialect to it."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator

import msgspec
import pytest

from tasks import batches, vault
from tasks.batches import Batch
from tasks.models import BatchState, Group
from tasks.providers import catalogue, gemini_inline, http, registry
from tasks.providers.dialect import Upstream
from tasks.settings import Settings
from tests.relay.raw_upstream import Call, RawUpstream

HEAD = b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nConnection: close\r\n"
PIECE = b"x" * 65_536
#: What may be under way in the sockets of both ends beside what is read.
UNDER_WAY = 12_000_000

GROUPS = {
    "openai": Group(credential="c" * 24, endpoint="/v1/chat/completions", model="m"),
    "anthropic": Group(credential="c" * 24, endpoint="/v1/messages", model="", provider="anthropic"),
    "gemini": Group(credential="c" * 24, endpoint="generateContent", model="m", provider="gemini"),
    "inline": Group(credential="c" * 24, endpoint="generateContent", model="m", provider="gemini"),
}
BATCH = Batch(
    id="b" * 32, state=BatchState.CREATING, group=GROUPS["openai"], count=1, claimed=0, create_at=0, input_file="file-1"
)
Act = Callable[[Upstream], object]
ACTS: dict[str, Act] = {
    "upload": lambda upstream: upstream.upload(io.BytesIO(b"form"), BATCH),
    "create": lambda upstream: upstream.create(BATCH, io.BytesIO(b"form")),
    "retrieve": lambda upstream: upstream.retrieve("batch_1"),
    "cancel": lambda upstream: upstream.cancel("batch_1"),
    "find": lambda upstream: upstream.find(BATCH),
    "find files": lambda upstream: upstream.find_input_files(BATCH),
    "delete": lambda upstream: upstream.delete("file-1"),
}
#: Of which dialect which calls are made; those with one answer that is read.
CALLS = [
    (dialect, name)
    for dialect in GROUPS
    for name in ACTS
    if dialect in {"openai", "gemini"} or name not in {"upload", "find files"}
    if (dialect, name) != ("gemini", "upload")
]
LISTS = [(dialect, name) for dialect, name in CALLS if name in {"find", "find files"}]
MEMBERS = {"openai": b"data", "anthropic": b"data", "gemini": b"operations", "inline": b"operations"}


@pytest.fixture
def raw(monkeypatch: pytest.MonkeyPatch) -> Iterator[RawUpstream]:
    upstream = RawUpstream()
    monkeypatch.setattr(vault, "open_sealed", lambda ref: "Bearer sk-x")
    monkeypatch.setattr(batches, "lines", lambda batch_id: [("r" * 32, 1)])
    monkeypatch.setattr(gemini_inline, "MOST_BYTES", http.MOST_JSON_BYTES)
    yield upstream
    upstream.close()


def made(raw: RawUpstream, dialect: str = "openai") -> Upstream:
    """The upstream as its dialect calls it."""
    provider = catalogue.build(Settings())[GROUPS[dialect].provider]
    provider = msgspec.structs.replace(provider, base_url=raw.url, inline=dialect == "inline")
    return registry.DIALECTS[provider.dialect](GROUPS[dialect], provider)


def listing(dialect: str, name: str, body: bytes) -> bytes:
    """A page as the dialect writes it."""
    member = b"files" if (dialect, name) == ("gemini", "find files") else MEMBERS[dialect]
    return body.replace(b'"data"', b'"%b"' % member)


class Endless:
    """Answers with a body that goes on until the other end has had enough."""

    def __init__(self, status: bytes = b"200 OK", begin: bytes = b"{", piece: bytes = PIECE, more: bytes = b"") -> None:
        self._status, self._begin, self._piece, self._more = status, begin, piece, more
        self.sent = 0

    def __call__(self, call: Call) -> None:
        call.read()
        call.send(HEAD % self._status + self._more + b"\r\n" + self._begin)
        with contextlib.suppress(OSError):
            while self.sent < 1_000_000_000:
                call.send(self._piece)
                self.sent += len(self._piece)
        call.close()


def answering(body: bytes, *, more: bytes = b"") -> Callable[[Call], None]:
    def handler(call: Call) -> None:
        call.read()
        call.send(HEAD % b"200 OK" + more + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        call.close()

    return handler
