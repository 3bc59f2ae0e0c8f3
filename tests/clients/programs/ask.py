"""One call with an `openai` package of any version; prints what came of it.

ask.py sync|async BASE_URL TIMEOUT_SECONDS MODEL CONTENT
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import openai


def told(answer: Any) -> dict[str, Any]:
    return {"id": answer.id, "content": answer.choices[0].message.content, "request_id": answer._request_id}


def failed(error: openai.OpenAIError) -> dict[str, Any]:
    return {"error": type(error).__name__, "status": getattr(error, "status_code", None), "message": str(error)}


async def ask_async(options: Any, call: Any) -> dict[str, Any]:
    async with openai.AsyncOpenAI(**options) as client:
        return told(await client.chat.completions.create(**call))


def main(mode: str, base_url: str, timeout: str, model: str, content: str) -> None:
    options: Any = {"base_url": base_url, "timeout": float(timeout)}
    call: Any = {"model": model, "messages": [{"role": "user", "content": content}]}
    try:
        if mode == "async":
            report = asyncio.run(ask_async(options, call))
        else:
            with openai.OpenAI(**options) as client:
                report = told(client.chat.completions.create(**call))
    except openai.OpenAIError as error:
        report = failed(error)
    sys.stdout.write(json.dumps({"version": openai.__version__, **report}) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
