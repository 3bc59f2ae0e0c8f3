"""A few questions at once: asked together, they share one batch."""

import asyncio
import os

from openai import AsyncOpenAI

MODEL = os.environ.get("OPENAI_MODEL", "gpt-6-luna")
QUESTIONS = ["Why is the sky blue?", "Why is grass green?", "Why is snow white?"]


async def ask(client: AsyncOpenAI, question: str) -> str | None:
    answer = await client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": question}])
    return answer.choices[0].message.content


async def main() -> None:
    async with AsyncOpenAI(
        base_url=os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:3030/v1"),  # the one changed line
    ) as client:
        answers = await asyncio.gather(*(ask(client, question) for question in QUESTIONS))
    for question, answer in zip(QUESTIONS, answers, strict=True):
        print(f"{question}\n  {answer}")


asyncio.run(main())
