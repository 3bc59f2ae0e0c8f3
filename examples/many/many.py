"""Hundreds of questions at once, with a progress bar: no queue, no chunks, no batch code."""

import asyncio
import os
import sys

import openai
from tqdm import tqdm

MODEL = os.environ.get("OPENAI_MODEL", "gpt-6-luna")
COUNT = int(sys.argv[1]) if len(sys.argv) > 1 else 300


async def ask(client: openai.AsyncOpenAI, question: str, bar: tqdm) -> str | None:
    try:
        answer = await client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": question}])
    except openai.OpenAIError as error:
        bar.write(f"{question}  failed: {error}", file=sys.stderr)
        return None
    bar.update()
    return answer.choices[0].message.content


async def main() -> int:
    questions = [f"Write the number {n} in words." for n in range(COUNT)]
    async with openai.AsyncOpenAI(
        base_url=os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:3030/v1"),  # the one changed line
    ) as client:
        with tqdm(total=COUNT, unit="answer") as bar:
            answers = await asyncio.gather(*(ask(client, question, bar) for question in questions))
    for question, answer in zip(questions, answers, strict=True):
        print(f"{question}\t{answer or ''}")
    return 1 if None in answers else 0


sys.exit(asyncio.run(main()))
