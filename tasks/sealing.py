"""Seals bodies and replies at rest, when SEAL_BODIES says so: AES-256-GCM with the vault's keys.

A request has a key of its own, made of a vault key and its id, so that no two texts meet under one key and what was
sealed for one request cannot be put in another one's place. What is not sealed is read as it is: the setting can
be changed while requests wait. Whether two requests are equal is decided before, by the digest of their bodies.
"""

from __future__ import annotations

import functools
import os
from hashlib import blake2b
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tasks import vault
from tasks.errors import VaultError
from tasks.settings import settings

#: No JSON begins with it.
MARK: Final = b"\x01"
KEY_ID_BYTES: Final = 4
NONCE_BYTES: Final = 12
HEAD_BYTES: Final = len(MARK) + KEY_ID_BYTES + NONCE_BYTES


def body(request_id: str, plain: bytes) -> bytes:
    """A request's body for the store."""
    return seal(request_id, plain) if settings().seal_bodies else plain


def opened(request_id: str, stored: bytes) -> bytes:
    """What `body` was given.

    Raises:
        VaultError: the key is not configured, or it is not this request's.
    """
    return open_sealed(request_id, stored) if stored.startswith(MARK) else stored


def seal(request_id: str, plain: bytes) -> bytes:
    """Mark, id of the vault key, nonce, sealed text."""
    key_id, master = next(iter(_masters().items()))
    nonce = os.urandom(NONCE_BYTES)
    return MARK + key_id + nonce + _cipher(master, request_id).encrypt(nonce, plain, None)


def open_sealed(request_id: str, sealed: bytes) -> bytes:
    """What was sealed.

    Raises:
        VaultError: the key is not configured, or it is not this request's.
    """
    master = _masters().get(sealed[len(MARK) : len(MARK) + KEY_ID_BYTES])
    if master is None:
        raise VaultError(f"{request_id} cannot be opened: LLM_PROXY_VAULT_KEYS lacks the key it was sealed with")
    nonce, text = sealed[HEAD_BYTES - NONCE_BYTES : HEAD_BYTES], sealed[HEAD_BYTES:]
    try:
        return _cipher(master, request_id).decrypt(nonce, text, None)
    except (InvalidTag, ValueError):
        raise VaultError(f"{request_id} cannot be opened: it was changed, or sealed for another request") from None


def _cipher(master: bytes, request_id: str) -> AESGCM:
    return AESGCM(blake2b(request_id.encode(), key=master, digest_size=32).digest())


@functools.cache
def _masters() -> dict[bytes, bytes]:
    """A key for bodies made of each vault key, by its id; the first seals."""
    made = [blake2b(key, digest_size=32, person=b"lp-bodies").digest() for key in vault.keys(settings())]
    return {blake2b(key, digest_size=KEY_ID_BYTES, person=b"lp-key-id").digest(): key for key in made}
