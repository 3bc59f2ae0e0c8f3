"""JSON lines: written by splicing, read line by line."""

from __future__ import annotations

import json

import hypothesis.strategies as st
import pytest
from hypothesis import given

from tasks import jsonl


def test_a_line_holds_the_bodys_own_bytes() -> None:
    line = jsonl.line("abc", "/v1/embeddings", b'{"model":"m",  "x":1.0}')

    assert line.endswith(b'"body":{"model":"m",  "x":1.0}}\n')
    assert json.loads(line) == {
        "custom_id": "abc",
        "method": "POST",
        "url": "/v1/embeddings",
        "body": {"model": "m", "x": 1.0},
    }


@given(st.lists(st.text().map(lambda text: text.replace("\n", "").encode())), st.integers(1, 7))
def test_lines_are_found_whatever_the_pieces_they_come_in(lines: list[bytes], size: int) -> None:
    data = b"\n".join(lines)
    chunks = [data[at : at + size] for at in range(0, len(data), size)]

    assert list(jsonl.split_lines(chunks)) == (lines or [b""])


def test_unicode_line_separators_do_not_end_a_line() -> None:
    text = '{"custom_id":"a","response":{"status_code":200,"body":"\u2028\u0085"}}'.encode()

    assert list(jsonl.split_lines([text])) == [text]


def test_the_bodys_bytes_come_back_as_the_upstream_wrote_them() -> None:
    line = jsonl.parse_result(
        b'{"id":"r","custom_id":"a","response":{"status_code":200,"request_id":"q","body":{"x":  1.0,"y":1e400}}}'
    )

    assert line.response is not None
    assert line.response.body_bytes == b'{"x":  1.0,"y":1e400}'


def test_a_body_written_as_a_json_string_is_unpacked() -> None:
    line = jsonl.parse_result(rb'{"custom_id":"a","response":{"status_code":200,"body":"{\"x\": 1.0}"}}')

    assert line.response is not None
    assert line.response.body_bytes == b'{"x": 1.0}'


@pytest.mark.parametrize(
    "text",
    [
        b"<html>", b"{}", b"[]", b'{"custom_id":1}', b'{"custom_id":"a","response":{"status_code":"x"}}',
        b'{"custom_id":"a","response":{"status_code":200,"body":{"x":"\xff"}}}', b'{"custom_id":"a"',
    ],
)  # fmt: skip
def test_what_is_no_result_line_is_a_value_error(text: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the reader catches just this
        jsonl.parse_result(text)
