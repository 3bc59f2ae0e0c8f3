"""JSON that is right, nearly right and wrong, as bytes."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

_scalars: st.SearchStrategy[Any] = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20)
)


def values(keys: st.SearchStrategy[str]) -> st.SearchStrategy[Any]:
    """JSON values whose objects have these keys, among others."""
    names = keys | st.text(max_size=8)
    return st.recursive(
        _scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=5), max_leaves=20
    )


@st.composite
def texts(draw: st.DrawFn, value: st.SearchStrategy[Any]) -> bytes:
    """A value as JSON, in some spelling, and then perhaps damaged."""
    encoded = json.dumps(
        draw(value), ensure_ascii=draw(st.booleans()), indent=draw(st.sampled_from([None, None, 0, 1]))
    ).encode("utf-8", "surrogatepass")
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2, 5]))):
        at = draw(st.integers(0, len(encoded)))
        length = draw(st.integers(0, 3))
        encoded = encoded[:at] + draw(st.binary(max_size=4) | _odd) + encoded[at + length :]
    return encoded


_odd = st.sampled_from([
    b"[" * 300, b'{"a":' * 300, b"]" * 5, b"1e999", b"-0", b"9" * 400, b"\\ud800", b"\xed\xa0\x80", b"\xef\xbb\xbf",
    b"\xe2\x80\xa8", b"\x00", b"\r\n", b'\\"', b"\\", b"NaN", b"Infinity", b"//", b",", b'"', b":",
])  # fmt: skip
