"""3,000 requests over three models that all have trouble, asked of the stack that `make run` runs.

The real SDK asks every tenth of them; it takes ten times the time of the bare callers who ask the others.

One model's queue takes 400 requests, one's batches expire half done, one's stall past a grace period of 20 s.
"""

from __future__ import annotations

import asyncio
import http.client
import io
import json
import resource
from collections import Counter
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import openai
import pytest
import requests

from tests import running
from tests.bench import load
from tests.ports import free_port
from tests.simulator.server import Simulator
from tests.system.conftest import Up

EACH = 1000
GRACE_SECONDS = 20
KEY = "sk-scenario"
MODELS = ("small-queue", "expires", "stalls")


@pytest.mark.timeout(400)
def test_every_caller_gets_their_answer_whatever_becomes_of_the_batches(
    up: Up, own_upstream: Simulator, tmp_path: Path
) -> None:
    upstream, port = own_upstream, free_port()
    upstream.configure(
        validate_delay=0.3,
        batch_delay=1.0,
        finalize_delay=0.2,
        ends=[
            {"model": "small-queue", "enqueued_limit": 400},
            {"model": "expires", "expire_after": 1.0, "expire_frac": 0.5, "count": 6},
            {"model": "stalls", "stuck": "in_progress", "expire_frac": 0.3},
        ],
    )
    with running.short_directory() as data:
        up(port, data, LLM_PROXY_UPSTREAM=upstream.url)

        answers = asyncio.run(ask_all(port))
        stats: dict[str, Any] = requests.get(f"http://127.0.0.1:{port}/stats", timeout=10).json()

    assert [question for question, (text, _) in answers.items() if text != f"echo:{question}"] == []
    billed = upstream.stats()["billed"]
    assert billed["requests"] == len(answers) == 3 * EACH
    assert billed["more_than_once"] == []

    lanes = Counter((question.split()[0], lane) for question, (_, lane) in answers.items())
    assert lanes["small-queue", "batch"] == lanes["expires", "batch"] == EACH
    assert lanes["stalls", "batch"] == pytest.approx(0.3 * EACH, abs=30)
    assert lanes["stalls", "flex"] == EACH - lanes["stalls", "batch"]

    made = upstream.stats()["batches"]
    by_status = Counter((batch["model"], batch["status"]) for batch in made)
    assert stats["requests"] == {**stats["requests"], "total": 3000, "successful": 3000, "failed": 0}
    assert stats["lanes"] == {"batch": 3000 - lanes["stalls", "flex"], "sync": 0, "flex": lanes["stalls", "flex"]}
    assert stats["ends"]["failed"] == by_status["small-queue", "failed"] == stats["exceptions"]["over_quota"]
    assert stats["ends"]["expired"] == by_status["expires", "expired"] >= 1
    assert stats["ends"]["cancelled"] == by_status["stalls", "cancelled"] >= 1
    assert stats["exceptions"]["fallbacks"]["flex"] == lanes["stalls", "flex"]
    assert stats["exceptions"]["possibly_double_paid"] == 0
    assert stats["batches"]["total"] == len(made)


async def ask_all(port: int) -> dict[str, tuple[str | None, str]]:
    """Question -> answer and lane."""
    answers: dict[str, tuple[str | None, str]] = {}
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    opening = asyncio.Semaphore(load.OPENING)

    async def by_sdk(sdk: openai.AsyncOpenAI, model: str, question: str) -> None:
        raw = await sdk.chat.completions.with_raw_response.create(
            model=model, messages=[{"role": "user", "content": question}], extra_headers=max_wait(model)
        )
        answers[question] = raw.parse().choices[0].message.content, raw.headers["x-batch-lane"]

    async def bare(model: str, question: str) -> None:
        async with opening:
            asked = {"model": model, "messages": [{"role": "user", "content": question}]}
            headers = {"Authorization": f"Bearer {KEY}", **max_wait(model)}
            request = load.request(load.ENDPOINTS["chat"], asked, "127.0.0.1", headers)
            _, caller = await asyncio.get_running_loop().create_connection(
                lambda: load.Caller(request), "127.0.0.1", port
            )
        answers[question] = said(await caller.done)

    async with openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key=KEY, timeout=600) as sdk:
        await asyncio.gather(
            *(by_sdk(sdk, model, f"{model} {n}") for model in MODELS for n in range(0, EACH, 10)),
            *(bare(model, f"{model} {n}") for model in MODELS for n in range(EACH) if n % 10),
        )
    return answers


def max_wait(model: str) -> dict[str, str]:
    return {"X-Batch-Max-Wait": str(GRACE_SECONDS)} if model == "stalls" else {}


def said(answer: bytes) -> tuple[str | None, str]:
    """The answer and its lane, from the bytes that came."""
    response = http.client.HTTPResponse(Mock(makefile=lambda _mode: io.BytesIO(answer)))
    response.begin()
    reply = json.loads(response.read())
    return reply["choices"][0]["message"]["content"], response.headers["x-batch-lane"]
