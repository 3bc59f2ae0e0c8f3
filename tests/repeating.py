"""A client that repeats its request as an SDK does, for suites in which processes go away."""

from __future__ import annotations

import time

import requests


def ask(url: str, question: str, number: int, *, pause_seconds: float, tries: int, key: str = "") -> tuple[str, int]:
    """Ask once, one in twenty synchronously: "right" or what came instead, and how often it was tried."""
    time.sleep(pause_seconds)
    mode = "sync" if number % 20 == 0 else "batch"
    body = {"model": f"m{number % 2}", "messages": [{"role": "user", "content": question}]}
    said = "nothing"
    for attempt in range(tries):
        headers = {
            "Authorization": "Bearer sk-repeating", "X-Stainless-Retry-Count": str(attempt), "X-Batch-Mode": mode,
        }  # fmt: skip
        if key:
            headers["Idempotency-Key"] = key
        try:
            answer = requests.post(f"{url}/v1/chat/completions", json=body, headers=headers, timeout=120)
        except requests.RequestException as error:
            said = type(error).__name__
        else:
            if answer.ok:
                content = answer.json()["choices"][0]["message"]["content"]
                return ("right" if content == f"echo:{question}" else f"wrong: {content}"), attempt + 1
            said = f"{answer.status_code} {answer.text[:100]}"
        time.sleep(min(1 + attempt, 8))
    return said, tries
