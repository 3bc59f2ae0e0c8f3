"""The calls of LangChain's `langchain-openai`."""

from __future__ import annotations

import told  # type: ignore[import-not-found]  # beside this program
from langchain_openai import ChatOpenAI, OpenAIEmbeddings  # type: ignore[import-not-found]  # in an environment of its own
from pydantic import BaseModel


class Person(BaseModel):
    """A person."""

    name: str
    age: int


options = told.options(url="base_url", timeout="timeout")
model = ChatOpenAI(model=told.MODEL, **options)
# Its own counting of tokens would download a vocabulary.
embeddings = OpenAIEmbeddings(model=told.EMBEDDING_MODEL, check_embedding_ctx_length=False, **options)

told.tell(
    {
        "chat": lambda: model.invoke("chat").content,
        "tools": lambda: model.bind_tools([Person]).invoke(told.SAY).tool_calls[0]["args"],
        "structured": lambda: model.with_structured_output(Person).invoke(told.SAY),
        "stream": lambda: "".join(chunk.content for chunk in model.stream("stream")),
        "embedding": lambda: len(embeddings.embed_query("embedding")),
        "error": lambda: model.bind(**told.FAIL).invoke("error").content,
        "slow": lambda: model.invoke("slow").content,
    }
)
