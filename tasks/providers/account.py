"""One caller's account at one provider: where it is called, with which key, and with what else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any, Final
from urllib.parse import quote, urlencode

import msgspec
import requests

from tasks import vault
from tasks.errors import UpstreamRefused, UpstreamTrouble
from tasks.jsonl import MOST_LINE_BYTES
from tasks.models import Group, Reply
from tasks.providers import http
from tasks.providers.catalogue import Provider
from tasks.settle import error_reply

#: Shorter than a lease: when the lease is over, so is the call.
CALL_SECONDS: Final = 20.0
#: An upload or download goes on while the lease is renewed.
TRANSFER_SECONDS: Final = 1800.0
#: A day of the most batches that an account may create.
LIST_PAGES: Final = 500


class Extra(msgspec.Struct, frozen=True):
    """What a batch carries for all of its lines; a group holds it as text."""

    headers: dict[str, str] = {}
    query: dict[str, str] = {}
    root: str = ""  # that they came by, if it is not the provider's first

    def encode(self) -> str:
        """The text: equal for equal contents, empty for none."""
        return msgspec.json.encode(self, order="sorted").decode() if self.headers or self.query or self.root else ""


class Account:
    """Calls on behalf of one group of requests.

    Raises:
        CredentialGone: there is no credential any more.
        VaultError: it cannot be opened until the operator restores the vault key.
    """

    def __init__(self, group: Group, provider: Provider) -> None:
        extra = msgspec.json.decode(group.extra, type=Extra) if group.extra else Extra()
        self.provider = provider
        self.root = provider.root
        self._came_by = extra.root or provider.root  # files and batches have one version, single calls the caller's
        self.model = quote(group.model, safe="")  # as a path has it: what a caller calls a model adds nothing to it
        self.key = vault.open_sealed(group.credential)
        self.headers = {**auth_headers(self.key), **extra.headers}
        if group.organization:
            self.headers["OpenAI-Organization"] = group.organization
        if group.project:
            self.headers["OpenAI-Project"] = group.project
        self._query = f"?{urlencode(extra.query)}" if extra.query else ""

    def __repr__(self) -> str:
        return f"Account({self.provider.name}, credential=…)"

    def call(
        self, method: str, operation: str, *, headers: dict[str, str] | None = None, **options: Any
    ) -> AbstractContextManager[requests.Response]:
        """One call of an operation such as /files; see http.call."""
        options.setdefault("deadline_seconds", call_seconds())
        return http.call(
            method,
            self.root + operation + self._query,
            base=self.provider.base_url,
            headers={**self.headers, **(headers or {})},
            **options,
        )

    def json(self, method: str, operation: str, *, most: int = http.MOST_JSON_BYTES, **options: Any) -> dict[str, Any]:
        """One call whose 2xx carries a JSON object of so many bytes at most."""
        with self.call(method, operation, **options) as response:
            return http.json_object(response, f"{method} {operation}", most)

    def listed(
        self, operation: str, since_seconds: float, *, numbered: str = "", **query: str | int
    ) -> Iterator[dict[str, Any]]:
        """A list, newest first, to the first page that ends with something older.

        Args:
            numbered: the parameter that numbers its pages from 0; else they follow by `after`.
        """
        after: dict[str, str | int] = {}
        for number in range(LIST_PAGES):
            if numbered:
                after = {numbered: number}
            page = self.json("GET", operation, params={**query, **after})
            items = http.items(page, "data", f"GET {operation}")
            yield from items
            created = unix_seconds(items[-1].get("created_at")) if items else None
            ended = not items if numbered else not page.get("has_more")
            if ended or (created is not None and created < since_seconds):
                return
            if not items:
                break
            after = {"after": http.text(items[-1], "id")}
        raise UpstreamTrouble(f"GET {operation}: the list does not end", in_doubt=False)

    def send(self, group: Group, body: bytes, timeout_seconds: float) -> Reply:
        """One request, synchronously; every answer but 408, 409, 429 and 5xx is final."""
        try:
            with http.call(
                "POST",
                self.provider.operation(group.endpoint, self.model, self._came_by) + self._query,
                base=self.provider.base_url,
                headers={**self.headers, "Content-Type": "application/json"},
                data=body,
                deadline_seconds=timeout_seconds,
            ) as response:
                answer = http.read(response, MOST_LINE_BYTES)
                if answer is None:  # it was paid: asking again would pay for another one
                    return error_reply(502, "The upstream's answer does not end.", code="answer_too_long")
                return Reply.of_upstream(response.status_code, http.reply_headers(response), answer)
        except UpstreamRefused as error:
            return Reply.of_upstream(error.status, error.headers, error.body)


def call_seconds() -> float:
    """The total deadline of a call that is no transfer."""
    return CALL_SECONDS


def auth_headers(credential: str) -> dict[str, str]:
    """The headers that carry a credential: an Authorization value, or another header's name and value on two lines."""
    name, line, value = credential.partition("\n")
    return {name: value} if line else {"Authorization": credential}


def unix_seconds(moment: object) -> float | None:
    """A moment that is written in seconds or in ISO's way; None if it is neither."""
    if isinstance(moment, int | float):
        return float(moment)
    try:
        return datetime.fromisoformat(str(moment)).timestamp()
    except ValueError:
        return None
