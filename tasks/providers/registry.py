"""Finds the dialect that a group's provider speaks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from tasks.errors import SettingsError
from tasks.models import Group
from tasks.providers.anthropic import Anthropic
from tasks.providers.catalogue import Provider, providers
from tasks.providers.dialect import Upstream
from tasks.providers.gemini import Gemini
from tasks.providers.gemini_inline import GeminiInline
from tasks.providers.openai import OpenAI


def _gemini(group: Group, provider: Provider) -> Upstream:
    return GeminiInline(group, provider) if provider.inline else Gemini(group, provider)


DIALECTS: Final[dict[str, Callable[[Group, Provider], Upstream]]] = {
    "openai": OpenAI,
    "anthropic": Anthropic,
    "gemini": _gemini,
}


def upstream(group: Group) -> Upstream:
    """The upstream as this group sees it.

    Raises:
        SettingsError: its provider is in no file any more.
        CredentialGone: there is no credential any more.
        VaultError: it cannot be opened until the operator restores the vault key.
    """
    provider = providers().get(group.provider)
    if provider is None or not provider.open:
        raise SettingsError(f"the provider {group.provider} is not open any more, and has batches in flight")
    return DIALECTS[provider.dialect](group, provider)
