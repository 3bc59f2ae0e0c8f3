"""JSON lines: written by splicing, read line by line."""

from __future__ import annotations

import json

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given

from tasks import jsonl
from tasks.errors import UpstreamTrouble


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


@pytest.mark.parametrize(
    ("chunks", "lines"),
    [
        ([b"a\nb", b"c\n", b"d"], [b"a", b"bc", b"d"]),
        ([b"", b"a b\n\n"], [b"a b", b"", b""]),
        ([b"\xef\xbb\xbfa", b"\xef\xbb\xbfb\n\xef\xbb\xbfc"], [b"a\xef\xbb\xbfb", b"\xef\xbb\xbfc"]),
        ([b"abc\xef\xbb\xbf"], [b"abc\xef\xbb\xbf"]),
    ],
)
def test_lines_end_at_line_feeds_only_and_a_mark_is_taken_from_the_beginning_only(
    chunks: list[bytes], lines: list[bytes]
) -> None:
    assert list(jsonl.split_lines(chunks)) == lines


def test_a_line_may_have_so_many_bytes_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsonl, "MOST_LINE_BYTES", 6)
    whole = [b"123", b"456", b"\n12", b"3456", b"\n1"]
    assert list(jsonl.split_lines(whole)) == [b"123456", b"123456", b"1"]

    with pytest.raises(UpstreamTrouble, match="longer than 6 bytes") as caught:
        list(jsonl.split_lines([b"1\n123", b"4567"]))
    assert caught.value.in_doubt is False


def test_a_form_is_the_fields_and_then_the_file() -> None:
    head = jsonl.form_head("a.jsonl", {"purpose": "batch", "x": "y"})
    body = head + b"{}" + jsonl.FORM_TAIL
    [_, first, second, file, end] = body.split(f"--{jsonl.BOUNDARY}".encode())

    assert first == b'\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
    assert second == b'\r\nContent-Disposition: form-data; name="x"\r\n\r\ny\r\n'
    assert file == (
        b'\r\nContent-Disposition: form-data; name="file"; filename="a.jsonl"\r\n'
        b"Content-Type: application/jsonl\r\n\r\n{}\r\n"
    )
    assert end == b"--\r\n"


def test_a_bare_line_says_no_more_than_whose_body_it_is() -> None:
    assert jsonl.bare_line("abc", b'{"x":1}') == b'{"custom_id":"abc","body":{"x":1}}\n'


def test_an_answer_is_an_object_in_utf_8() -> None:
    jsonl.check_object(msgspec.Raw(b'{"a": 1}'))
    for body in (b"null", b'"{}"', b"[1]", b'{"a": "\xff"}'):
        with pytest.raises(ValueError, match=r"the answer is no object|utf-8"):
            jsonl.check_object(msgspec.Raw(body))
