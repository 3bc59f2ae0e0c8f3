"""The calls of instructor over the `openai` SDK."""

from __future__ import annotations

import instructor  # type: ignore[import-not-found]  # in an environment of its own
import openai
import told  # type: ignore[import-not-found]  # beside this program
from pydantic import BaseModel


class Person(BaseModel):
    """A person."""

    name: str
    age: int


client = instructor.from_openai(openai.OpenAI(**told.options(url="base_url", timeout="timeout")))


def ask(text: str, **more: object) -> object:
    return client.chat.completions.create(
        model=told.MODEL, messages=told.asked(text), **{"response_model": Person, **more}
    )


def stream() -> object:
    *_, last = client.chat.completions.create_partial(
        model=told.MODEL, messages=told.asked(f"{told.SAY} "), response_model=Person
    )
    return last


told.tell(
    {
        "chat": lambda: ask("chat", response_model=None).choices[0].message.content,  # type: ignore[attr-defined]
        "structured": lambda: ask(told.SAY),
        "stream": stream,
        "error": lambda: ask("error", **told.FAIL),
        "slow": lambda: ask("slow", response_model=None).choices[0].message.content,  # type: ignore[attr-defined]
    }
)
