"""Access tokens: who may spend the proxy's own upstream key, and how much of it.

The file holds one token a line: its label, the SHA-256 of the token in hex, then what it may do:

    research  <64 hex digits>  requests_per_minute=600 waiting=5000 dollars_per_day=20

A plain SHA-256 is enough: a token has 256 random bits, and what nobody can guess needs no slow hash. Two lines with
one label are an old and a new token of the same caller; limits are counted by label.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tasks.errors import SettingsError
from tasks.models import Allowance
from tasks.settings import Settings

logger = logging.getLogger(__name__)

PREFIX: Final = "lp-"
#: How often the file is looked at; so soon a token that was taken out of it is refused.
LOOK_SECONDS: Final = 1.0
LABEL: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
DIGEST: Final = re.compile(r"[0-9a-f]{64}")
COUNT: Final = re.compile(r"[1-9][0-9]{0,8}")
DOLLARS: Final = re.compile(r"[0-9]{1,6}(\.[0-9]{1,6})?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A line of the file.

    Attributes:
        relays_all: it may use endpoints that show what others have stored under the same upstream key.
    """

    digest: str = field(repr=False)
    allowance: Allowance
    relays_all: bool = False


class Tokens:
    """The tokens of a file, read again when it changes.

    Raises:
        SettingsError: it cannot be read, or a line of it makes no sense.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._looked_at = time.monotonic()
        self._state = self._stat()
        self._read()

    def __repr__(self) -> str:
        return f"Tokens({len(self._tokens)})"

    def labels(self) -> set[str]:
        """Whose they are."""
        self._look()
        return {token.allowance.label for token in self._tokens.values()}

    def find(self, token: str) -> Token | None:
        """The line of a token."""
        self._look()
        digest = hashlib.sha256(token.encode()).hexdigest()
        # Python's dicts look by a keyed hash of the digest, so that even this takes no time that tells anything.
        found = self._tokens.get(digest)
        return found if found is not None and hmac.compare_digest(found.digest, digest) else None

    def _look(self) -> None:
        if time.monotonic() - self._looked_at < LOOK_SECONDS:
            return
        self._looked_at = time.monotonic()
        state = self._stat()
        if state == self._state:
            return
        self._state = state
        try:
            self._read()
        except SettingsError as error:
            logger.error("the access tokens stay as they were: %s", error)

    def _read(self) -> None:
        self._tokens = read(self._path)
        logger.info("%d access tokens were read", len(self._tokens))

    def _stat(self) -> tuple[int, int, int] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino


def tokens(config: Settings) -> Tokens | None:
    """The configured tokens; None: every caller brings a key of its own.

    Raises:
        SettingsError: their file is wrong.
    """
    return Tokens(Path(config.access_tokens_file)) if config.access_tokens_file else None


def read(path: Path) -> dict[str, Token]:
    """The tokens in a file by their digests.

    Raises:
        SettingsError: with the line that makes no sense, and nothing of what it says: it may be a token.
    """
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{_name(path)} cannot be read: {type(error).__name__}") from None
    found: dict[str, Token] = {}
    by_label: dict[str, Token] = {}
    for number, line in enumerate(lines, 1):
        words = line.split("#", 1)[0].split()
        if not words:
            continue
        try:
            token = _token(words)
            same = by_label.setdefault(token.allowance.label, token)
            if (same.allowance, same.relays_all) != (token.allowance, token.relays_all):
                raise ValueError("another line gives the same label other limits")
            if found.setdefault(token.digest, token) is not token:
                raise ValueError("another line has the same token")
        except ValueError as error:
            raise SettingsError(f"{_name(path)}, line {number}: {error}") from None
    if not found:
        raise SettingsError(f"{_name(path)} holds no token: make one with `python -m tasks access-token LABEL`")
    return found


def make(label: str) -> tuple[str, str]:
    """A new token, and the line of it.

    Raises:
        ValueError: that is no label.
    """
    token = PREFIX + secrets.token_urlsafe(32)
    words = [label, hashlib.sha256(token.encode()).hexdigest()]
    _token(words)
    return token, " ".join(words)


def _name(path: Path) -> str:
    return f"LLM_PROXY_ACCESS_TOKENS_FILE ({path})"


def _token(words: list[str]) -> Token:
    if len(words) < 2 or not LABEL.fullmatch(words[0]):
        raise ValueError("needs a label of letters, digits and ._- and the SHA-256 of a token")
    if not DIGEST.fullmatch(words[1]):
        raise ValueError("its second word must be the SHA-256 of a token: 64 hex digits in lower case")
    limits = _limits(words[2:])
    return Token(
        digest=words[1],
        allowance=Allowance(
            label=words[0],
            requests_per_minute=int(limits.get("requests_per_minute", 0)),
            waiting=int(limits.get("waiting", 0)),
            micro_dollars_per_day=round(float(limits.get("dollars_per_day", 0)) * 1_000_000),
        ),
        relays_all=limits.get("relay") == "all",
    )


def _limits(words: Iterable[str]) -> dict[str, str]:
    limits: dict[str, str] = {}
    known = {"requests_per_minute": COUNT, "waiting": COUNT, "dollars_per_day": DOLLARS, "relay": re.compile("all")}
    for word in words:
        name, _, value = word.partition("=")
        if name not in known:
            raise ValueError("a limit must be requests_per_minute=, waiting=, dollars_per_day= or relay=all")
        if name in limits or not known[name].fullmatch(value) or (name == "dollars_per_day" and not float(value)):
            raise ValueError(f"{name} must stand there once, with a number above 0 (relay: with all)")
        limits[name] = value
    return limits
