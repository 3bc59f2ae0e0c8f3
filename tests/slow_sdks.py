"""SDKs that take seconds to import: every test process would do so, only to list the tests that use them."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import anthropic
    from google import genai

__all__ = ["anthropic", "genai"]

NAMES = {"anthropic": "anthropic", "genai": "google.genai"}


def __getattr__(name: str) -> ModuleType:
    """Import one when it is asked for."""
    if name not in NAMES:
        raise AttributeError(name)
    return importlib.import_module(NAMES[name])
