"""The calls of `openai` for Python, 1.109 and later."""

from __future__ import annotations

import openai
import told  # type: ignore[import-not-found]  # beside this program
from pydantic import BaseModel


class Person(BaseModel):
    name: str
    age: int


client = openai.OpenAI(**told.options(url="base_url", timeout="timeout"))


def ask(text: str, **more: str) -> str | None:
    answer = client.chat.completions.create(model=told.MODEL, messages=told.asked(text), **more)  # type: ignore[call-overload]
    return answer.choices[0].message.content  # type: ignore[no-any-return]


def tools() -> str:
    tool = openai.pydantic_function_tool(Person)
    answer = client.chat.completions.parse(model=told.MODEL, messages=told.asked(told.SAY), tools=[tool])
    calls = answer.choices[0].message.tool_calls
    return str(calls and calls[0].function.parsed_arguments)


def structured() -> str:
    return str(client.responses.parse(model=told.MODEL, input=told.SAY, text_format=Person).output_parsed)


def stream() -> str:
    with client.chat.completions.stream(model=told.MODEL, messages=told.asked("stream")) as events:
        return str(events.get_final_completion().choices[0].message.content)


def embedding() -> int:
    return len(client.embeddings.create(model=told.EMBEDDING_MODEL, input="embedding").data[0].embedding)


told.tell(
    {
        "chat": lambda: ask("chat"),
        "tools": tools,
        "structured": structured,
        "stream": stream,
        "embedding": embedding,
        "error": lambda: ask("error", **told.FAIL),
        "slow": lambda: ask("slow"),
    }
)
