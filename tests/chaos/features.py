"""What the project under chaos can do. A feature that is being built is switched on here, in its one line."""

from __future__ import annotations

from typing import Any, Final

#: `POST /webhooks/openai`: the upstream sends its events, and the monkey sends them twice, late and forged.
WEBHOOKS: Final = True
#: `X-Batch-Max-Wait` cancels a batch that takes too long: some callers are impatient, answers to cancel are lost.
CANCELS: Final = True

WEBHOOK_PATH: Final = "/webhooks/openai"
WEBHOOK_SECRET: Final = "whsec_Y2hhb3MtY2hhb3MtY2hhb3M="
#: This part of the callers does not wait longer than so many seconds for a batch.
IMPATIENT: Final = 0.05
MAX_WAIT_SECONDS: Final = "2"


def variables() -> dict[str, Any]:
    """Settings of the stack that the features need."""
    return {"LLM_PROXY_WEBHOOK_SECRETS": WEBHOOK_SECRET} if WEBHOOKS else {}


def upstream(url: str) -> dict[str, str]:
    """Settings of the upstream that the features need, given the front's address."""
    return {"webhook_url": url + WEBHOOK_PATH, "webhook_secret": WEBHOOK_SECRET} if WEBHOOKS else {}
