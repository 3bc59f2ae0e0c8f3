"""The calls of LlamaIndex, by `OpenAI` (for model names that it knows) and by `OpenAILike`."""

from __future__ import annotations

import told  # type: ignore[import-not-found]  # beside this program
from llama_index.core.llms import LLM  # type: ignore[import-not-found]  # in an environment of its own
from llama_index.embeddings.openai import OpenAIEmbedding  # type: ignore[import-not-found]  # the same
from llama_index.llms.openai import OpenAI  # type: ignore[import-not-found]  # the same
from llama_index.llms.openai_like import OpenAILike  # type: ignore[import-not-found]  # the same
from pydantic import BaseModel


class Person(BaseModel):
    """A person."""

    name: str
    age: int


options = told.options(url="api_base", timeout="timeout")
like = {"is_chat_model": True, "is_function_calling_model": True}


def make(**more: object) -> LLM:
    return OpenAI(model=told.MODEL, **options, **more)


told.tell(
    {
        "chat": lambda: make().complete("chat"),
        "like": lambda: OpenAILike(model="any-name", **like, **options).complete("like"),
        "structured": lambda: repr(make().as_structured_llm(Person).complete(told.SAY).raw),
        "stream": lambda: "".join(chunk.delta or "" for chunk in make().stream_complete("stream")),
        "embedding": lambda: len(OpenAIEmbedding(**options).get_text_embedding("embedding")),
        "error": lambda: make(additional_kwargs=told.FAIL).complete("error"),
        "slow": lambda: make().complete("slow"),
    }
)
