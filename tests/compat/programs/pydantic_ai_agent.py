"""The calls of Pydantic AI."""

from __future__ import annotations

import asyncio

import told  # type: ignore[import-not-found]  # beside this program
from pydantic import BaseModel
from pydantic_ai import Agent  # type: ignore[import-not-found]  # in an environment of its own
from pydantic_ai.models.openai import OpenAIChatModel  # type: ignore[import-not-found]  # the same
from pydantic_ai.providers.openai import OpenAIProvider  # type: ignore[import-not-found]  # the same


class Person(BaseModel):
    """A person."""

    name: str
    age: int


model = OpenAIChatModel(told.MODEL, provider=OpenAIProvider(base_url=told.BASE_URL))
settings = {"timeout": told.TIMEOUT} if told.TIMEOUT else {}


def ask(text: str, output: type = str, **more: object) -> object:
    return Agent(model, output_type=output).run_sync(text, model_settings=settings | more).output


async def stream() -> str:
    async with Agent(model).run_stream("stream", model_settings=settings) as run:
        return str(await run.get_output())


told.tell(
    {
        "chat": lambda: ask("chat"),
        "structured": lambda: ask(told.SAY, Person),
        "stream": lambda: asyncio.run(stream()),
        "error": lambda: ask("error", openai_user=told.FAIL["user"]),
        "slow": lambda: ask("slow"),
    }
)
