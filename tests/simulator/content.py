"""File contents: bytes when small, a memory map of an unlinked temporary file when large: 200 MB cost no heap."""

from __future__ import annotations

import json
import mmap
import os
from collections.abc import Iterator
from typing import IO, Any

Content = bytes | mmap.mmap

SMALL_BYTES = 1 << 20
CHUNK_BYTES = 1 << 16


def freeze(file: IO[bytes]) -> Content:
    """What was written to a file, readable for as long as anybody refers to it; the file may be closed."""
    file.flush()
    if file.seek(0, os.SEEK_END) <= SMALL_BYTES:
        file.seek(0)
        return file.read()
    return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def spans(content: Content) -> Iterator[tuple[int, int]]:
    """Start and end of each line. Only \\n ends a line: U+2028 and its kin may stand raw inside a JSON string."""
    start, size = 0, len(content)
    while start < size:
        end = content.find(b"\n", start)
        end = size if end < 0 else end
        yield start, end
        start = end + 1


def chunks(content: Content) -> Iterator[bytes]:
    """The content in pieces of a size to send."""
    for start in range(0, len(content), CHUNK_BYTES):
        yield content[start : start + CHUNK_BYTES]


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(parse_constant=_no_constant)


def parse(text: bytes) -> Any:
    """Strict JSON in strict UTF-8, lenient about numbers (1e400 is fine); ValueError otherwise."""
    try:
        return _DECODER.decode(text.decode())
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
