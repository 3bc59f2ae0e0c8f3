"""Seals the callers' credentials: encrypted in Redis, passed on by reference.

A credential is a whole Authorization header value, or another header's name and value. Its reference is a digest of
it, of the access token's label and of the provider, so that equal credentials share groups and two tokens over one
upstream key share nothing; an API key has too much entropy to be found by trying.
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


def reference(credential: str, label: str = "", provider: str = "openai") -> str:
    """24 hex digits that stand for the credential in the hands of one caller, at one provider.

    The same key elsewhere is another account.
    """
    text = f"{label}\0{credential}" if label else credential
    if provider != "openai":  # with an empty label, too: no label makes another provider's reference
        text = f"{provider}\0{label}\0{credential}"
    return blake2b(text.encode(), digest_size=12, person=b"lp-credential").hexdigest()


def build(config: Settings) -> MultiFernet:
    """The configured keys: the first seals, all open.

    Raises:
        SettingsError: there are none, or one is not a Fernet key.
    """
    return MultiFernet([Fernet(key) for key in keys(config)])


def keys(config: Settings) -> list[bytes]:
    """The configured keys as Fernet has them, for whoever makes keys for other ends of them.

    Raises:
        SettingsError: there are none, or one is not a Fernet key.
    """
    given = config.vault_keys
    if not given and config.embedded:
        path = config.data_dir / "vault.key"
        given = (path.read_text().strip(),) if path.is_file() else ()
    if not given:
        raise SettingsError(
            "LLM_PROXY_VAULT_KEYS is not set: create a key with `python -m tasks vault-key`"
            " and give the same to web and worker"
        )
    try:
        return [_key(secret) for secret in given]
    except ValueError:
        raise SettingsError(
            "LLM_PROXY_VAULT_KEYS holds something that is neither a Fernet key nor a secret of"
            f" {SECRET_LENGTH} characters: create a key with `python -m tasks vault-key`"
        ) from None


def _key(secret: str) -> bytes:
    if len(secret) >= SECRET_LENGTH:
        digest = blake2b(secret.encode(), digest_size=32, person=b"lp-vault-key").digest()
        secret = urlsafe_b64encode(digest).decode()
    Fernet(secret)  # it says whether it is one
    return secret.encode()


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
