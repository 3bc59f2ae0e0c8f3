"""Prices: half where a batch price is published, unknown where none is, never the standard price in disguise."""

from __future__ import annotations

from datetime import date

import pytest

from tasks import prices
from tasks.prices import Rates
from tasks.settings import Settings


@pytest.fixture(autouse=True)
def _looked_up_anew() -> None:
    prices.find.cache_clear()


HOST, CHAT, EMBEDDINGS = "api.openai.com", "/v1/chat/completions", "/v1/embeddings"
DAY = date(2026, 11, 20)


@pytest.mark.parametrize(
    ("model", "endpoint", "tier", "paid", "standard"),
    [
        ("gpt-6-luna", CHAT, "batch", Rates(0.05, 0.005, 0.25), Rates(0.1, 0.01, 0.5)),
        ("gpt-6-luna", CHAT, "flex", Rates(0.05, 0.005, 0.25), Rates(0.1, 0.01, 0.5)),
        ("gpt-6-luna", CHAT, "priority", Rates(0.2, 0.02, 1.0), Rates(0.1, 0.01, 0.5)),
        ("gpt-6-luna", CHAT, "standard", Rates(0.1, 0.01, 0.5), Rates(0.1, 0.01, 0.5)),
        # No batch price for what is cached: never dearer than what is not.
        ("gpt-4.1-mini", CHAT, "batch", Rates(0.2, 0.1, 0.8), Rates(0.4, 0.1, 1.6)),
        # No flex price in the list: it is the batch's.
        ("gpt-4.1-mini", CHAT, "flex", Rates(0.2, 0.1, 0.8), Rates(0.4, 0.1, 1.6)),
        ("text-embedding-3-small", EMBEDDINGS, "flex", Rates(0.01, 0.01, 0), Rates(0.02, 0.02, 0)),
        # In no list, but half by the upstream's own page.
        ("text-embedding-3-small", EMBEDDINGS, "batch", Rates(0.01, 0.01, 0), Rates(0.02, 0.02, 0)),
    ],
)
def test_a_known_price(model: str, endpoint: str, tier: str, paid: Rates, standard: Rates) -> None:
    price = prices.find(HOST, model, endpoint, tier, DAY)

    assert price is not None
    assert (price.paid, price.standard, price.provider) == (paid, standard, "openai")


@pytest.mark.parametrize(
    ("host", "model", "tier", "day"),
    [
        (HOST, "my-own-model", "batch", DAY),
        (HOST, "babbage-002", "batch", DAY),  # it has a standard price, which genai-prices would give
        (HOST, "gpt-6-luna", "", DAY),
        (HOST, "gpt-6-luna", "batch", date(2026, 10, 1)),  # before its batch price
        ("127.0.0.1:9100", "gpt-6-luna", "batch", DAY),
    ],
)
def test_what_nobody_has_published_is_unknown(host: str, model: str, tier: str, day: date) -> None:
    assert prices.find(host, model, CHAT, tier, day) is None


@pytest.mark.parametrize(
    ("provider", "model", "endpoint", "paid", "whose"),
    [
        ("anthropic", "claude-haiku-4-5-20251001", "/v1/messages", Rates(0.5, 0.05, 2.5), "anthropic"),
        ("gemini", "gemini-2.5-flash", "generateContent", Rates(0.15, 0.03, 1.25), "google"),
        ("mistral", "mistral-embed", EMBEDDINGS, Rates(0.05, 0.05, 0.05), "mistral"),
    ],
)
def test_another_provider_has_its_own_prices(
    monkeypatch: pytest.MonkeyPatch, provider: str, model: str, endpoint: str, paid: Rates, whose: str
) -> None:
    monkeypatch.setattr(prices, "settings", lambda: Settings(prices="openai"))  # says nothing of other providers
    price = prices.find(provider, model, endpoint, "batch", DAY)

    assert price is not None
    assert (price.paid, price.provider) == (paid, whose)


@pytest.mark.parametrize(
    ("provider", "model", "endpoint"),
    [
        ("anthropic", "gpt-6-luna", CHAT),
        ("anthropic", "", "/v1/messages"),
        ("gemini", "gemini-embedding-001", "embedContent"),  # no batch price is in the list
        ("gemini-openai", "gemini-embedding-001", EMBEDDINGS),
        ("azure", "gpt-6-luna", CHAT),  # it is closed, and a deployment may be called anything
    ],
)
def test_what_no_list_has_of_another_provider_is_unknown(provider: str, model: str, endpoint: str) -> None:
    assert prices.find(provider, model, endpoint, "batch", DAY) is None


def test_cached_tokens_are_part_of_the_input() -> None:
    assert Rates(2, 0.5, 10).cost(1_000_000, 400_000, 100_000) == pytest.approx(0.6 * 2 + 0.4 * 0.5 + 1)


def test_the_list_that_is_set_holds_for_a_host_that_none_names(monkeypatch: pytest.MonkeyPatch) -> None:
    assert prices.find("models.example", "gpt-6-luna", CHAT, "batch", DAY) is None

    monkeypatch.setattr(prices, "settings", lambda: Settings(prices="openai"))
    prices.find.cache_clear()

    price = prices.find("models.example", "gpt-6-luna", CHAT, "batch", DAY)
    assert price is not None
    assert price.paid == Rates(0.05, 0.005, 0.25)


def test_what_a_tier_does_not_name_costs_what_it_costs_otherwise() -> None:
    assert prices._rates({"input_mtok": 1}, Rates(2, 0.5, 7)) == Rates(1, 0.5, 7)
    assert prices._rates({"input_mtok": 1}) == Rates(1, 1, 0)
