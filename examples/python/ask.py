"""One question that travels in a batch: the ordinary SDK, one changed line."""

import os
import sys

from openai import OpenAI

client = OpenAI(
    base_url=os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:3030/v1"),  # the one changed line
)
question = " ".join(sys.argv[1:]) or "Why is the sky blue? One sentence."

answer = client.chat.completions.create(
    model=os.environ.get("OPENAI_MODEL", "gpt-6-luna"),
    messages=[{"role": "user", "content": question}],
)
print(answer.choices[0].message.content)
