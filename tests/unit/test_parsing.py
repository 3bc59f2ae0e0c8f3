"""What the front makes of a body."""

from __future__ import annotations

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given

from tasks.errors import InvalidRequest
from web.parsing import MOST_DEPTH, parse

CHAT, EMBEDDINGS = "/v1/chat/completions", "/v1/embeddings"


def test_a_body_on_one_line_is_kept_byte_for_byte() -> None:
    body = '{"model" : "m",  "x": [9007199254740993, 1.0, 1e400], "é": "\\u2028 a  b", "n": -0.0}'.encode()

    assert parse(CHAT, body).line == body


def test_line_ends_outside_strings_are_removed_and_nothing_else_changes() -> None:
    body = b'{\r\n "model": "m",\n "x": [1.0, 1e400], "s": "a\\n  b"\n}'

    assert parse(CHAT, body).line == b'{"model":"m","x":[1.0,1e400],"s":"a\\n  b"}'


def test_stream_and_its_options_are_taken_out_and_the_rest_keeps_bytes_and_order() -> None:
    body = b'{"z": 1.0, "stream": true, "model": "m", "stream_options": {"include_usage": true}, "a": [1,  2]}'
    parsed = parse(CHAT, body)

    assert parsed.line == b'{"z":1.0,"model":"m","a":[1,  2]}'
    assert parsed.stream
    assert parsed.include_usage


def test_stream_false_is_taken_out_too() -> None:
    parsed = parse(CHAT, b'{"model":"m","stream":false}')

    assert parsed.line == b'{"model":"m"}'
    assert not parsed.stream


@pytest.mark.parametrize(
    ("given_input", "inputs"),
    [
        (b'"text"', 1),
        (b'["a", "b", "c"]', 3),
        (b"[1, 2, 3]", 1),
        (b"[[1, 2], [3]]", 2),
        (b"[]", 1),
        (b' [ "a" ]', 1),
    ],
)
def test_embedding_inputs_are_counted_and_a_token_array_is_one(given_input: bytes, inputs: int) -> None:
    assert parse(EMBEDDINGS, b'{"model":"m","input":' + given_input + b"}").inputs == inputs


def test_equal_bodies_have_equal_fingerprints_and_endpoints_tell_them_apart() -> None:
    body = b'{"model":"m"}'

    assert parse(CHAT, body).fingerprint == parse(CHAT, body).fingerprint
    assert parse(CHAT, body).fingerprint != parse("/v1/responses", body).fingerprint
    assert parse(CHAT, body).fingerprint != parse(CHAT, b'{"model":"n"}').fingerprint


def test_moderations_may_leave_the_model_out() -> None:
    assert parse("/v1/moderations", b'{"input":"x"}').model == "omni-moderation-latest"


def test_a_prompt_is_in_no_repr() -> None:
    assert "secret" not in repr(parse(CHAT, b'{"model":"m","messages":"secret"}'))


@given(st.binary(max_size=200))
def test_any_bytes_are_parsed_or_refused_and_never_crash(body: bytes) -> None:
    try:
        line = parse(CHAT, body).line
    except InvalidRequest:
        return
    assert b"\n" not in line


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.text(), json_values, max_size=6), st.sampled_from([None, 2]))
def test_any_object_reaches_the_line_with_the_same_meaning(members: dict[str, object], indent: int | None) -> None:
    members = {k: v for k, v in members.items() if k not in {"stream", "stream_options", "background"}}
    body = msgspec.json.encode({**members, "model": "m"})
    if indent:
        body = msgspec.json.format(body, indent=indent)

    line = parse(CHAT, body).line

    assert b"\n" not in line
    assert line == msgspec.json.format(body, indent=-1)


def nested(levels: int) -> bytes:
    return b'{"model":"m","x":' + b"[" * (levels - 1) + b"]" * (levels - 1) + b"}"


def test_nesting_is_taken_to_a_limit_and_refused_beyond_it_however_deep() -> None:
    parse("/v1/chat/completions", nested(MOST_DEPTH))

    for levels in (MOST_DEPTH + 1, 500, 990, 1100, 100_000):
        with pytest.raises(InvalidRequest, match="nested too deeply"):
            parse("/v1/chat/completions", nested(levels))


def test_brackets_in_strings_are_no_nesting() -> None:
    text = b"[" * 500 + b'\\"' + b"{" * 500 + b"\\\\"

    parse("/v1/chat/completions", b'{"model":"m","x":["' + text + b'","' + text + b'"]}')


def test_many_shallow_parts_are_taken_and_too_many_are_refused() -> None:
    parts = b'{"model":"m","x":[' + b",".join([b"[{}]"] * 100_000) + b"]}"
    parse("/v1/chat/completions", parts)

    with pytest.raises(InvalidRequest, match="arrays and objects"):
        parse("/v1/chat/completions", b'{"model":"m","x":[' + b",".join([b"[{}]"] * 300_000) + b"]}")
