"""Finds the dialect that a group's provider speaks."""

from __future__ import annotations

from tasks.models import Group
from tasks.providers.dialect import Upstream
from tasks.providers.openai import OpenAI


def upstream(group: Group) -> Upstream:
    """The upstream as this group sees it.

    Raises:
        CredentialGone: there is no credential any more.
        VaultError: it cannot be opened until the operator restores the vault key.
    """
    return OpenAI(group)
