"""Asking for flex, and understanding that there is none."""

from __future__ import annotations

import pytest

from tasks import flex

CHAT = "/v1/chat/completions"


def test_only_the_tier_is_added_and_every_other_byte_stays() -> None:
    given = b'{"model":"m","big":9007199254740993, "x": 1e400,"messages":[ ]}'

    assert (
        flex.body(CHAT, given) == b'{"model":"m","big":9007199254740993,"x":1e400,"messages":[ ],"service_tier":"flex"}'
    )


@pytest.mark.parametrize(
    ("endpoint", "given"), [("/v1/embeddings", b'{"model":"m"}'), (CHAT, b'{"model":"m","service_tier":"auto"}')]
)
def test_flex_is_not_asked_for_where_there_is_none_or_the_caller_has_said_otherwise(
    endpoint: str, given: bytes
) -> None:
    assert flex.body(endpoint, given) is None


@pytest.mark.parametrize(
    ("status", "answer", "unavailable"),
    [
        (429, b'{"error":{"message":"Resource Unavailable","code":"resource_unavailable"}}', True),
        (429, b'{"error":{"message":"Resource Unavailable","code":null,"type":null}}', True),
        (429, b'{"error":{"message":"Rate limit reached","code":"rate_limit_exceeded"}}', False),
        (400, b'{"error":{"message":"flex is not for this model","param":"service_tier"}}', True),
        (400, b'{"error":{"message":"bad","param":"messages"}}', False),
        (500, b'{"error":{"code":"resource_unavailable"}}', False),
        (429, b"<html>", False),
        (429, b'{"error":"no"}', False),
        (429, b"[]", False),
    ],
)
def test_no_capacity_is_told_from_other_errors(status: int, answer: bytes, unavailable: bool) -> None:
    assert flex.is_unavailable(status, answer) is unavailable


@pytest.mark.parametrize("name", ["code", "type", "message"])
def test_no_capacity_is_understood_wherever_it_is_said(name: str) -> None:
    assert flex.is_unavailable(429, b'{"error":{"%s":"Resource_Unavailable"}}' % name.encode())


def test_words_of_two_members_do_not_make_one() -> None:
    assert not flex.is_unavailable(429, b'{"error":{"code":"resource_","message":"unavailable"}}')
    assert not flex.is_unavailable(400, b'{"error":{"code":"service","type":"_tier"}}')
