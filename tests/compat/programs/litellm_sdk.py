"""The calls of litellm's SDK."""

from __future__ import annotations

import litellm  # type: ignore[import-not-found]  # in an environment of its own
import told  # type: ignore[import-not-found]  # beside this program

TOOL = {
    "type": "function",
    "function": {"name": "person", "parameters": {"type": "object", "properties": {"name": {"type": "string"}}}},
}
options = told.options(url="api_base", timeout="timeout")


def ask(text: str, **more: object) -> object:
    return litellm.completion(model=f"openai/{told.MODEL}", messages=told.asked(text), **options, **more)


def message(text: str, **more: object) -> object:
    return ask(text, **more).choices[0].message  # type: ignore[attr-defined]


def stream() -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in ask("stream", stream=True))  # type: ignore[attr-defined]


def embedding() -> int:
    answer = litellm.embedding(model=f"openai/{told.EMBEDDING_MODEL}", input=["embedding"], **options)
    return len(answer.data[0]["embedding"])


told.tell(
    {
        "chat": lambda: message("chat").content,  # type: ignore[attr-defined]
        "tools": lambda: message(told.SAY, tools=[TOOL]).tool_calls[0].function.arguments,  # type: ignore[attr-defined]
        "stream": stream,
        "embedding": embedding,
        "error": lambda: message("error", **told.FAIL),
        "slow": lambda: message("slow").content,  # type: ignore[attr-defined]
    }
)
