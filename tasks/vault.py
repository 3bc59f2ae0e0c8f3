"""Seals the callers' credentials: encrypted in Redis, passed on by reference.

A credential is a whole Authorization header value. Its reference is a digest of it, so that
equal credentials share groups; an API key has too much entropy to be found by trying.
"""

from __future__ import annotations

import functools
from base64 import urlsafe_b64encode
from hashlib import blake2b

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from tasks import connections, store
from tasks.errors import CredentialGone, SettingsError, VaultError
from tasks.settings import Settings, settings

#: Credentials that a web process remembers as sealed, to seal each once.
CACHE_SIZE = 4096
#: A secret of this length that is no Fernet key, such as a platform generates, is made into one. A Fernet
#: key has 44 characters: one that was cut or mistyped is still refused.
SECRET_LENGTH = 48


def reference(credential: str, provider: str = "openai") -> str:
    """24 hex digits that stand for the credential at a provider: the same key elsewhere is another account."""
    text = credential if provider == "openai" else f"{provider}\0{credential}"
    return blake2b(text.encode(), digest_size=12, person=b"lp-credential").hexdigest()


def build(config: Settings) -> MultiFernet:
    """The configured keys: the first seals, all open.

    Raises:
        SettingsError: there are none, or one is not a Fernet key.
    """
    keys = config.vault_keys
    if not keys and config.embedded:
        path = config.data_dir / "vault.key"
        keys = (path.read_text().strip(),) if path.is_file() else ()
    if not keys:
        raise SettingsError(
            "LLM_PROXY_VAULT_KEYS is not set: create a key with `python -m tasks vault-key`"
            " and give the same to web and worker"
        )
    try:
        return MultiFernet([_fernet(key) for key in keys])
    except ValueError:
        raise SettingsError(
            "LLM_PROXY_VAULT_KEYS holds something that is neither a Fernet key nor a secret of"
            f" {SECRET_LENGTH} characters: create a key with `python -m tasks vault-key`"
        ) from None


def _fernet(secret: str) -> Fernet:
    if len(secret) >= SECRET_LENGTH:
        digest = blake2b(secret.encode(), digest_size=32, person=b"lp-vault-key").digest()
        secret = urlsafe_b64encode(digest).decode()
    return Fernet(secret)


@functools.cache
def _keys() -> MultiFernet:
    return build(settings())


@functools.lru_cache(maxsize=CACHE_SIZE)
def seal(credential: str) -> bytes:
    """The credential, encrypted."""
    return _keys().encrypt(credential.encode())


def open_sealed(ref: str) -> str:
    """The Authorization header behind a reference.

    Raises:
        CredentialGone: it has expired.
        VaultError: it was sealed with a key that is not configured.
    """
    sealed = connections.client().get(f"{store.PREFIX}credential:{ref}")
    if sealed is None:
        raise CredentialGone(f"credential {ref} is not in the store any more")
    try:
        return _keys().decrypt(sealed).decode()
    except InvalidToken:
        raise VaultError(
            f"credential {ref} cannot be opened: LLM_PROXY_VAULT_KEYS lacks the key it was sealed with"
        ) from None
