"""Bodies of any size pass in constant memory, whole and unchanged; `RELAY_MB=1000` for the real thing."""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.relay.raw_upstream import OK, Call, RawUpstream
from tests.relay.wire import Caller, ask, pieces
from tests.running import Stack

MEGABYTES = int(os.environ.get("RELAY_MB", "200"))
GROWTH_KB = 16_000
BLOCK = os.urandom(1_000_000)


def web_process(stack: Stack) -> Path:
    [child] = stack.workers_of_web()
    return Path(f"/proc/{child}")


def memory_kb(process: Path, name: str) -> int:
    found = re.search(rf"{name}:\s+(\d+) kB", (process / "status").read_text())
    assert found
    return int(found[1])


def growth_kb(stack: Stack, raw: RawUpstream, handler: Callable[[Call], None], work: Callable[[], None]) -> int:
    """How far the resident memory of the web process rises above what it is before."""
    ask(stack.port, b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n")  # it loads what it needs at the first request
    raw.handler = handler
    process = web_process(stack)
    (process / "clear_refs").write_text("5")  # the peak begins anew
    before = memory_kb(process, "VmRSS")
    work()
    return memory_kb(process, "VmHWM") - before


def framed(chunked: bool) -> Iterator[bytes]:
    for _ in range(MEGABYTES):
        yield b"%x\r\n%b\r\n" % (len(BLOCK), BLOCK) if chunked else BLOCK
    if chunked:
        yield b"0\r\n\r\n"


def header(chunked: bool) -> bytes:
    return (
        b"Transfer-Encoding: chunked\r\n\r\n" if chunked else b"Content-Length: %d\r\n\r\n" % (MEGABYTES * len(BLOCK))
    )


def digest(body: Iterator[bytes]) -> tuple[int, str]:
    size, sha256 = 0, hashlib.sha256()
    for piece in body:
        size += len(piece)
        sha256.update(piece)
    return size, sha256.hexdigest()


EXPECTED = digest(BLOCK for _ in range(MEGABYTES))


@pytest.mark.timeout(300)
@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("way", ["up", "down"])
def test_a_large_body_passes_in_constant_memory(
    front: Stack, raw: RawUpstream, chunked: bool, way: str, record_property: Callable[[str, object], None]
) -> None:
    got: list[tuple[int, str]] = []

    def up() -> None:
        caller = Caller(front.port)
        caller.send(b"POST /v1/files HTTP/1.1\r\nHost: x\r\n" + header(chunked))
        for part in framed(chunked):
            caller.send(part)
        assert caller.answer().status == 200
        caller.close()

    def down() -> None:
        caller = Caller(front.port)
        caller.send(b"GET /v1/files/f/content HTTP/1.1\r\nHost: x\r\n\r\n")
        got.append(digest(pieces(caller.stream, caller.head())))
        caller.close()

    def handler(call: Call) -> None:
        if way == "up":
            got.append(digest(call.pieces()))
            call.send(OK)
        else:
            call.send(b"HTTP/1.1 200 OK\r\n" + header(chunked))
            for part in framed(chunked):
                call.send(part)

    began = time.monotonic()
    growth = growth_kb(front, raw, handler, up if way == "up" else down)
    record_property("seconds", round(time.monotonic() - began, 1))
    record_property("growth_kb", growth)

    assert got == [EXPECTED]
    assert growth < GROWTH_KB
