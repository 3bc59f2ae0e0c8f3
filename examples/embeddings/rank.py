"""Ranks texts by their likeness to a query; the embeddings travel in a batch."""

import math
import os
import sys

from openai import OpenAI

TEXTS = ["A cup of strong coffee", "A glass of cold water", "A walk in the rain", "A book about the sea"]


def likeness(a: list[float], b: list[float]) -> float:
    """Cosine similarity."""
    return sum(x * y for x, y in zip(a, b, strict=True)) / (math.hypot(*a) * math.hypot(*b))


client = OpenAI(
    base_url=os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:3030/v1"),  # the one changed line
)
reply = client.embeddings.create(
    model=os.environ.get("OPENAI_MODEL", "text-embedding-3-small"),
    input=[" ".join(sys.argv[1:]) or "a drink to wake up with", *TEXTS],
)
query, *vectors = (item.embedding for item in reply.data)

scores = [likeness(query, vector) for vector in vectors]
for score, text in sorted(zip(scores, TEXTS, strict=True), reverse=True):
    print(f"{score:6.3f}  {text}")
