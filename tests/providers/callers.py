"""How a client of each provider calls it: path, key, body, and where the text and an error's words are in an answer."""

from __future__ import annotations

import concurrent.futures
from dataclasses import dataclass
from typing import Any

import requests

from tests.simulators.vendor import Vendor

#: Path under the proxy, and the header that carries the key.
CHAT = {
    "openai": ("/v1/chat/completions", "authorization"),
    "azure": ("/azure/openai/v1/chat/completions", "api-key"),
    "azure-classic": ("/azure-classic/openai/deployments/m/chat/completions?api-version=2024-10-21", "api-key"),
    "groq": ("/groq/openai/v1/chat/completions", "authorization"),
    "mistral": ("/mistral/v1/chat/completions", "authorization"),
    "together": ("/together/v1/chat/completions", "authorization"),
    "doubleword": ("/doubleword/v1/chat/completions", "authorization"),
    "deepinfra": ("/deepinfra/v1/openai/chat/completions", "authorization"),
    "nebius": ("/nebius/v1/chat/completions", "authorization"),
    "gemini-openai": ("/gemini/v1beta/openai/chat/completions", "authorization"),
    "acme": ("/acme/api/chat/completions", "x-acme-key"),
    "gemini": ("/gemini/v1beta/models/m:generateContent", "x-goog-api-key"),
    "gemini-inline": ("/gemini-inline/v1beta/models/m:generateContent", "x-goog-api-key"),
    "anthropic": ("/anthropic/v1/messages", "x-api-key"),
}
CALLERS = list(CHAT)


@dataclass
class Caller:
    """A client of one provider."""

    name: str
    url: str
    key: str
    vendor: Vendor

    @property
    def google(self) -> bool:
        """Whether it speaks Gemini's own dialect."""
        return self.name in {"gemini", "gemini-inline"}

    def ask(self, text: str, *, model: str = "m", **headers: str) -> requests.Response:
        """One question."""
        path, header = CHAT[self.name]
        key = f"Bearer {self.key}" if header == "authorization" else self.key
        sent = {header: key, **headers}
        if self.name == "anthropic":
            sent["anthropic-version"] = "2023-06-01"
        return requests.post(self.url + path, json=self.body(text, model), headers=sent, timeout=60)

    def body(self, text: str, model: str) -> dict[str, Any]:
        """The question as the provider's clients write it."""
        if self.google:
            return {"contents": [{"role": "user", "parts": [{"text": text}]}]}
        body: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": text}]}
        return {**body, "max_tokens": 100} if self.name == "anthropic" else body

    def ask_all(self, texts: list[str], **headers: str) -> list[requests.Response]:
        """Several at once."""
        with concurrent.futures.ThreadPoolExecutor(len(texts)) as pool:
            return list(pool.map(lambda text: self.ask(text, **headers), texts))

    def said(self, answer: requests.Response) -> str:
        """The answer's text."""
        assert answer.status_code == 200, answer.text
        told = answer.json()
        if self.google:
            return str(told["candidates"][0]["content"]["parts"][0]["text"])
        if self.name == "anthropic":
            return str(told["content"][0]["text"])
        return str(told["choices"][0]["message"]["content"])

    def tokens(self, answer: requests.Response) -> int:
        """What its usage adds up to."""
        told = answer.json()
        if self.google:
            return int(told["usageMetadata"]["totalTokenCount"])
        usage = told["usage"]
        return int(usage.get("total_tokens") or usage["input_tokens"] + usage["output_tokens"])

    def error(self, answer: requests.Response) -> str:
        """An error's words, if it is in the provider's shape."""
        told = answer.json()
        if self.google:
            assert told["error"]["code"] == answer.status_code
            assert told["error"]["status"]
        elif self.name == "anthropic":
            assert told["type"] == "error"
            assert told["error"]["type"]
        else:
            assert set(told["error"]) == {"message", "type", "param", "code"}
        return str(told["error"]["message"])

    def created(self) -> int:
        """How many jobs there were."""
        return self._calls("POST", "/batches", "/batch/jobs", ":batchGenerateContent")

    def doubted(self) -> int:
        """How often jobs were looked for in the list."""
        return self._calls("GET", "/batches", "/batch/jobs")

    def _calls(self, method: str, *ends: str) -> int:
        return sum(seen == method and path.endswith(ends) for seen, path, _, _ in self.vendor.seen)
