"""What the labels of access tokens have spent is noted by the sweep, for their dollars per day."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from tasks import budgets, prices, spending, store, vault
from tasks.settings import Settings, settings
from tests.integration.test_usage import answer, luna, settle_one


def test_a_days_cost_is_noted_by_label_and_noting_it_again_changes_nothing(
    redis_client: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LLM_PROXY_PRICES", "openai")
    settings.cache_clear()
    prices.find.cache_clear()
    file = tmp_path / "tokens"
    file.write_text(f"team {hashlib.sha256(b'a token').hexdigest()} dollars_per_day=1\n")
    config = Settings(access_tokens_file=str(file), upstream_key="sk-shared", vault_keys=settings().vault_keys)
    credential = vault.reference(config.upstream_authorization, "team")
    settle_one(luna(credential=credential), answer())
    settle_one(luna(credential="f" * 24), answer())  # a caller with a key of its own

    budgets.note(config)
    budgets.note(config)

    day = store.now_ms() // spending.DAY_MS
    assert redis_client.hgetall(f"lp:spent:{day}") == {b"team": b"100"}  # 1,000 and 200 tokens, in micro-dollars
