"""Python imports this first: the `openai` SDK's own time-out becomes SDK_TIMEOUT_SECONDS."""

from __future__ import annotations

import os
import sys

import openai

for name, module in list(sys.modules.items()):
    if name.startswith("openai.") and hasattr(module, "DEFAULT_TIMEOUT"):
        vars(module)["DEFAULT_TIMEOUT"] = openai.Timeout(float(os.environ["SDK_TIMEOUT_SECONDS"]), connect=5.0)
