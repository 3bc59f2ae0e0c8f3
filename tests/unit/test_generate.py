"""Gemini's calls: the path says what is asked for."""

from __future__ import annotations

import pytest

from tasks.errors import InvalidRequest
from web import generate

BODY = b'{"contents":[{"parts":[{"text":"hi"}]}]}'


def test_a_stream_is_batched_with_what_is_not_streamed() -> None:
    streamed = generate.parse("streamGenerateContent", BODY, "m", "sse")
    plain = generate.parse("generateContent", BODY, "m", None)

    assert (streamed.stream, plain.stream) == (True, False)
    assert streamed.endpoint == plain.endpoint == "generateContent"
    assert streamed.fingerprint == plain.fingerprint
    assert streamed.fingerprint != generate.parse("generateContent", BODY, "other", None).fingerprint
    assert plain.line == BODY


@pytest.mark.parametrize(
    ("action", "body", "alt", "named"),
    [
        ("streamGenerateContent", BODY, None, "alt"),
        ("generateContent", BODY, "sse", "alt"),
        ("generateContent", BODY, "proto", "alt"),
        ("batchEmbedContents", b'{"requests":[]}', None, "requests"),
        ("batchEmbedContents", b'{"requests":3}', None, "requests"),
        ("batchEmbedContents", b'{"requests":[{}],"extra":1}', None, "extra"),
    ],
)
def test_what_a_batch_cannot_carry_is_refused_by_name(action: str, body: bytes, alt: str | None, named: str) -> None:
    with pytest.raises(InvalidRequest, match=f"'{named}'") as caught:
        generate.parse(action, body, "m", alt)

    assert caught.value.param == named


def test_embeddings_are_counted() -> None:
    assert generate.parse("batchEmbedContents", b'{"requests":[{},{},{}]}', "m", None).inputs == 3
