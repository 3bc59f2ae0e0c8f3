"""Many callers who come again until they are answered, and who remember what they got."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from random import Random

import requests

PATIENCE_SECONDS = 240.0
#: This part of all questions is the same question: each of them must be answered by a line of its own.
EQUAL = 0.05


@dataclass
class Callers:
    """What is asked, and what came of it.

    Attributes:
        answers: Idempotency-Key -> id of the upstream's answer.
        wrong: what should never have come.
    """

    url: str
    mode: str
    count: int
    random: Random
    answers: dict[str, str] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    retries: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def run(self, at_once: int, seconds: float) -> None:
        """Ask everything, spread over some seconds."""
        began = time.monotonic()

        def paced() -> Iterator[tuple[str, str]]:
            for n in range(self.count):
                pause = began + seconds * n / self.count - time.monotonic()
                if pause > 0:
                    time.sleep(pause)
                yield f"key-{n}", "the same" if self.random.random() < EQUAL else f"question {n}"

        with ThreadPoolExecutor(at_once) as pool:
            for key, content in paced():
                pool.submit(self._ask_and_note, key, content)

    def _ask_and_note(self, key: str, content: str) -> None:
        try:
            self._ask(key, content)
        except Exception as error:
            self.wrong.append(f"{key}: {error!r}")

    def _ask(self, key: str, content: str) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        headers = {"Authorization": f"Bearer sk-{hash(key) % 2}", "Idempotency-Key": key, "X-Batch-Mode": self.mode}
        body = {"model": f"m{len(key) % 3}", "messages": [{"role": "user", "content": content}]}
        while time.monotonic() < deadline:
            try:
                answer = requests.post(f"{self.url}/v1/chat/completions", json=body, headers=headers, timeout=120)
            except requests.RequestException:
                answer = None
            if answer is not None and answer.status_code == 200:
                got = answer.json()
                if got["choices"][0]["message"]["content"] != f"echo:{content}":
                    self.wrong.append(f"{key}: another's answer")
                self.answers[key] = got["id"]
                return
            if answer is not None and answer.status_code not in {503, 429, 500, 502}:
                self.wrong.append(f"{key}: {answer.status_code} {answer.text[:200]}")
                return
            with self._lock:
                self.retries += 1
            time.sleep(0.5)
        self.wrong.append(f"{key}: no answer")
