"""Bodies at rest: sealed for one request with the first vault key, opened with all."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from cryptography.fernet import Fernet
from hypothesis import given
from hypothesis import strategies as st

from tasks import sealing, settle
from tasks.errors import VaultError
from tasks.models import Reply
from tasks.settings import settings

OLD, NEW = (Fernet.generate_key().decode() for _ in range(2))
ID, OTHER = "a" * 32, "b" * 32


def configure(monkeypatch: pytest.MonkeyPatch, *keys: str, sealed: bool = True) -> None:
    monkeypatch.setenv("LLM_PROXY_VAULT_KEYS", ",".join(keys))
    monkeypatch.setenv("LLM_PROXY_SEAL_BODIES", str(sealed).lower())
    settings.cache_clear()
    sealing._masters.cache_clear()


@pytest.fixture(autouse=True)
def _keys(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    configure(monkeypatch, OLD)
    yield
    settings.cache_clear()
    sealing._masters.cache_clear()


@given(st.binary(max_size=5000))
def test_what_is_sealed_comes_back_and_shows_nothing(plain: bytes) -> None:
    sealed = sealing.body(ID, plain)

    assert sealing.opened(ID, sealed) == plain
    assert len(sealed) == len(plain) + 33
    assert len(plain) < 4 or plain not in sealed


def test_equal_texts_look_different() -> None:
    assert sealing.body(ID, b"same") != sealing.body(ID, b"same")


def test_what_is_not_sealed_is_read_as_it_is_and_the_setting_may_change(monkeypatch: pytest.MonkeyPatch) -> None:
    sealed = sealing.body(ID, b'{"model":"m"}')
    configure(monkeypatch, OLD, sealed=False)

    assert sealing.body(ID, b'{"model":"m"}') == b'{"model":"m"}'
    assert sealing.opened(ID, b'{"model":"m"}') == b'{"model":"m"}'
    assert sealing.opened(ID, sealed) == b'{"model":"m"}'


def test_keys_rotate_the_first_seals_and_all_open(monkeypatch: pytest.MonkeyPatch) -> None:
    old = sealing.body(ID, b"old")
    configure(monkeypatch, NEW, OLD)
    new = sealing.body(ID, b"new")
    assert (sealing.opened(ID, old), sealing.opened(ID, new)) == (b"old", b"new")

    configure(monkeypatch, NEW)

    assert sealing.opened(ID, new) == b"new"
    with pytest.raises(VaultError, match="lacks the key"):
        sealing.opened(ID, old)


def test_what_was_sealed_for_one_request_or_changed_is_nothing_to_another() -> None:
    sealed = sealing.body(ID, b"mine")

    for request_id, text in ((OTHER, sealed), (ID, sealed[:-1] + bytes([sealed[-1] ^ 1])), (ID, sealed[:20])):
        with pytest.raises(VaultError):
            sealing.opened(request_id, text)


@pytest.mark.parametrize("body", [b'{"x":1}', b"\xff\x00", b""])
def test_a_sealed_reply_is_celerys_result_and_opens_for_its_request(body: bytes) -> None:
    payload = settle.encode(ID, Reply.of_upstream(200, {"x-a": "b"}, body))

    assert settle.decode(payload, ID).body == body
    assert settle.decode(payload, ID).headers == {"x-a": "b"}
    assert not body or body not in payload
    with pytest.raises(VaultError):
        settle.decode(payload, OTHER)
