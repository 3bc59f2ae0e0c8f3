"""Many callers who come again until they are answered, and who remember what they got and when."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from random import Random
from typing import Any
from urllib.parse import urlsplit

from tests.chaos import features

#: As patient as the SDKs: a caller who hung up early and came again would hide that nobody woke it.
TRY_SECONDS = 600.0
PAUSE_SECONDS = 0.5
#: This part of all questions is the same question: each of them must be answered by a line of its own.
EQUAL = 0.05
#: Answers after which SDKs come again.
AGAIN = frozenset({408, 409, 429, 500, 502, 503, 504})


@dataclass
class Story:
    """What happened to one caller; times are Unix times.

    Attributes:
        tries: (time, what came of it) of each try that was in vain.
        task_id: of the answer.
        connected: when the front's machine took the connection of the last try.
        held_seconds: how long the front says that it has held the last try.
    """

    key: str
    began: float
    tries: list[tuple[float, str]] = field(default_factory=list)
    ended: float = 0.0
    task_id: str = ""
    connected: float = 0.0
    held_seconds: float = 0.0

    @property
    def seconds(self) -> float:
        """From the first try to the answer."""
        return (self.ended or time.time()) - self.began


@dataclass
class Callers:
    """What is asked, and what came of it.

    Attributes:
        keyless: part of the callers that retry as an SDK does: without an Idempotency-Key, counting their tries.
        answers: caller -> id of the upstream's answer.
        wrong: what should never have come.
    """

    url: str
    mode: str
    count: int
    random: Random
    keyless: float = 0.0
    answers: dict[str, str] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    stories: list[Story] = field(default_factory=list)
    enough: threading.Event = field(default_factory=threading.Event)

    @property
    def retries(self) -> int:
        """Tries that were in vain."""
        return sum(len(story.tries) for story in self.stories)

    @property
    def waiting(self) -> list[Story]:
        """Callers without an answer."""
        return [story for story in self.stories if not story.ended]

    def give_up(self) -> None:
        """Nobody comes again."""
        self.enough.set()

    def run(self, at_once: int, seconds: float) -> None:
        """Ask everything, spread over some seconds."""
        began = time.monotonic()

        def paced() -> Iterator[tuple[str, str, dict[str, str]]]:
            for n in range(self.count):
                pause = began + seconds * n / self.count - time.monotonic()
                if pause > 0:
                    time.sleep(pause)
                content = "the same" if self.random.random() < EQUAL else f"question {n}"
                yield f"key-{n}", content, self._headers(n)

        with ThreadPoolExecutor(at_once) as pool:
            for key, content, headers in paced():
                pool.submit(self._ask_and_note, key, content, headers)

    def _headers(self, n: int) -> dict[str, str]:
        headers = {
            "Authorization": f"Bearer sk-{n % 2}",
            "Content-Type": "application/json",
            "X-Batch-Mode": self.mode,
        }
        if self.random.random() >= self.keyless:
            headers["Idempotency-Key"] = f"key-{n}"
        if features.CANCELS and self.random.random() < features.IMPATIENT:
            headers["X-Batch-Max-Wait"] = features.MAX_WAIT_SECONDS
        return headers

    def _ask_and_note(self, key: str, content: str, headers: dict[str, str]) -> None:
        story = Story(key, time.time())
        self.stories.append(story)
        try:
            self._ask(story, content, headers)
        except Exception as error:
            self.wrong.append(f"{key}: {error!r}")

    def _ask(self, story: Story, content: str, headers: dict[str, str]) -> None:
        body = {"model": f"m{len(story.key) % 3}", "messages": [{"role": "user", "content": content}]}
        while not self.enough.is_set():
            counted = {**headers, "x-stainless-retry-count": str(len(story.tries))}
            try:
                status, given, text = self._post(story, body, counted)
            except (OSError, http.client.HTTPException) as error:
                story.tries.append((time.time(), type(error).__name__))
            else:
                if status == 200:
                    self._note(story, content, given, text)
                    return
                if status not in AGAIN or given["x-should-retry"] == "false":
                    self.wrong.append(f"{story.key}: {status} {text[:200]!r}")
                    story.ended = time.time()
                    return
                story.tries.append((time.time(), str(status)))
            self.enough.wait(PAUSE_SECONDS)
        self.wrong.append(f"{story.key}: no answer in {story.seconds:.0f} s")

    def _post(
        self, story: Story, body: dict[str, Any], headers: dict[str, str]
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        """One try on a connection of its own, with the moment at which that was there."""
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=TRY_SECONDS)
        try:
            connection.connect()
            story.connected = time.time()
            connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def _note(self, story: Story, content: str, headers: http.client.HTTPMessage, text: bytes) -> None:
        got = json.loads(text)
        if got["choices"][0]["message"]["content"] != f"echo:{content}":
            self.wrong.append(f"{story.key}: another's answer")
        self.answers[story.key] = got["id"]
        story.task_id = headers["x-batch-task-id"]
        story.held_seconds = int(headers["x-batch-wait-ms"]) / 1000
        story.ended = time.time()
