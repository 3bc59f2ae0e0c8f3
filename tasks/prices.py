"""What tokens cost, by the package `genai-prices`, which ships with its list and asks nobody.

The package answers with the standard price when a model has none for batches, without saying so: whether there
is one is looked up here, and a price that nobody has published is unknown, never guessed. Rates are those
of ordinary prompts: what some models add beyond 272,000 tokens is left out, as only sums are kept.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import TYPE_CHECKING, Any, Final

from tasks.providers.catalogue import providers
from tasks.settings import settings

if TYPE_CHECKING:  # 0.4 s and 20 MB, which only a process that shows prices spends
    from genai_prices.types import ModelInfo

#: What the upstream calls a tier in the list.
CONTEXTS: Final = {
    "batch": {"processing": "batch"},
    "flex": {"service_tier": "flex"},
    "priority": {"service_tier": "priority"},
}
EMBEDDINGS: Final = "/v1/embeddings"
PER: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Rates:
    """USD per million tokens."""

    input: float
    cached: float
    output: float

    def cost(self, asked: int, cached: int, answered: int) -> float:
        """USD for tokens; `cached` is part of `asked`."""
        return ((asked - cached) * self.input + cached * self.cached + answered * self.output) / PER


@dataclass(frozen=True, slots=True)
class Price:
    """What a tier costs, and what the same tokens would have cost synchronously."""

    paid: Rates
    standard: Rates
    provider: str


@functools.lru_cache(maxsize=4096)
def find(host: str, model: str, endpoint: str, tier: str, day: date) -> Price | None:
    """The price of a model at an upstream on a day; None when it is not known.

    Args:
        host: of OpenAI's upstream, or the name of another provider.
    """
    found = _model(host, model)
    if found is None:
        return None
    info, provider = found
    at = datetime.combine(day, time(12), UTC)
    standard = _rates(info.get_prices(at).__dict__)
    if standard is None:
        return None
    paid = standard if tier == "standard" else _tier(info, provider, endpoint, tier, at, standard)
    return Price(paid, standard, provider) if paid else None


def _model(host: str, model: str) -> tuple[ModelInfo, str] | None:
    from genai_prices import Usage, calc_price

    try:
        found = calc_price(Usage(input_tokens=1), model_ref=model, **_where(host))
    except (LookupError, ValueError):
        return None
    return found.model, found.provider.id


def _where(host: str) -> dict[str, Any]:
    """Whose list: PRICES is about OpenAI's upstream; another provider goes by its own address."""
    other = providers().get(host)
    if other is not None:
        return {"provider_api_url": other.base_url or f"https://{host}"}
    return {"provider_id": settings().prices} if settings().prices else {"provider_api_url": f"https://{host}"}


def _tier(info: ModelInfo, provider: str, endpoint: str, tier: str, at: datetime, standard: Rates) -> Rates | None:
    wanted = CONTEXTS.get(tier)
    for variant in info.price_variants or ():
        if variant.when == wanted and (variant.constraint is None or variant.constraint.active(at)):
            return _rates(variant.prices.__dict__, standard)
    if tier == "flex":
        return _tier(info, provider, endpoint, "batch", at, standard)  # they cost the same where both are to be had
    if tier == "batch" and endpoint == EMBEDDINGS and provider == "openai":
        return Rates(standard.input / 2, standard.cached / 2, standard.output / 2)  # in no list, but published
    return None


def _rates(prices: dict[str, Any], standard: Rates | None = None) -> Rates | None:
    """Rates from a price list; what a tier does not name costs what it costs otherwise, and never more than input."""
    asked = _number(prices.get("input_mtok"))
    if asked is None:
        return None
    cached, answered = _number(prices.get("cache_read_mtok")), _number(prices.get("output_mtok"))
    if cached is None:
        cached = standard.cached if standard else asked
    if answered is None:
        answered = standard.output if standard else 0.0
    return Rates(asked, min(cached, asked), answered)


def _number(price: Any) -> float | None:
    return None if price is None else float(getattr(price, "base", price))
