"""200 equal requests of impatient SDKs, while fronts are killed and replaced: each gets an answer of its own."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator

import openai
import pytest

from tests import running
from tests.clients.asking import Front
from tests.running import Stack
from tests.simulator.server import Simulator, serve

COUNT = 200
BATCH_SECONDS = 20


@pytest.fixture
def upstream() -> Iterator[Simulator]:
    with serve(validate_delay=0.1, batch_delay=BATCH_SECONDS, finalize_delay=0.1) as made:
        yield made


@pytest.fixture
def stack(upstream: Simulator) -> Iterator[Stack]:
    """One that sends no sign of life to those who hide their patience: they give up every 3 s."""
    with (
        running.redis_server() as server,
        running.running_stack(server.url, upstream.url, LLM_PROXY_HEARTBEAT_AFTER_SECONDS="600") as made,
    ):
        yield made


@pytest.mark.timeout(240)
def test_200_equal_requests_get_200_answers_from_200_paid_lines(stack: Stack, upstream: Simulator) -> None:
    front = Front(stack.url, "sk-samples", upstream)

    async def sample(client: openai.AsyncOpenAI, n: int) -> str:
        answer = await client.chat.completions.create(
            model="samples",
            messages=[{"role": "user", "content": "the same"}],
            # Every other one hides its patience, and so gives up and comes again.
            extra_headers={"x-stainless-read-timeout": "6000"} if n % 2 else {},
        )
        return answer.id

    async def main() -> list[str]:
        url = f"{front.url}/v1"
        timeout = openai.Timeout(30, read=3)
        async with openai.AsyncOpenAI(base_url=url, api_key=front.key, timeout=timeout, max_retries=60) as client:
            return await asyncio.gather(*(sample(client, n) for n in range(COUNT)))

    def trouble() -> None:
        time.sleep(6)
        stack.kill_worker_of_web()
        time.sleep(8)
        stack.processes.pop("web").stop()
        stack.start("web")

    making_trouble = threading.Thread(target=trouble)
    making_trouble.start()
    ids = asyncio.run(main())
    making_trouble.join()

    assert len(set(ids)) == COUNT
    assert front.paid("samples") == COUNT
