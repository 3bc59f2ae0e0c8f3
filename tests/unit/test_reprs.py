"""What a traceback with locals, a debugger or a careless log line would show of objects that hold secrets."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import gevent
import pytest

from tasks import vault
from tasks.accept import _entry
from tasks.access import Token
from tasks.errors import UpstreamRefused
from tasks.models import Allowance, Group, Reply, Request
from tasks.providers import catalogue, registry
from tasks.providers.account import Account
from tasks.settings import Settings
from web.exchange import Exchange
from web.parsing import parse
from web.tokens import Caller

KEY, PROMPT = "Bearer sk-very-secret", "the prompt"
BODY = f'{{"model":"m","messages":[{{"role":"user","content":"{PROMPT}"}}]}}'.encode()


def exchange() -> Exchange:
    incoming = SimpleNamespace(unreader=SimpleNamespace(sock=None), method="POST", body=SimpleNamespace(ended=False))
    upstream = SimpleNamespace()
    headers = [(b"authorization", KEY.encode())]
    target = f"/v1/x?key={KEY}".encode()
    return Exchange(
        incoming=cast("Any", incoming), upstream=cast("Any", upstream), target=target, headers=headers, body=BODY,
        draining=bool,
    )  # fmt: skip


def objects(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    monkeypatch.setattr(vault, "open_sealed", lambda ref: KEY)
    monkeypatch.setattr(vault, "seal", lambda credential: b"sealed")
    group = Group(credential=vault.reference(KEY), endpoint="/v1/chat/completions", model="m")
    request = Request(group=group, body=BODY, fingerprint="f", idempotency_key=PROMPT)
    return [
        Settings(vault_keys=(KEY,), redis_url=f"redis://:{KEY}@x", upstream_key=KEY, access_tokens_file="f"),
        Caller(credential=KEY, allowance=Allowance(label="l")),
        Token(digest=KEY, allowance=Allowance(label="l")),
        *(registry.DIALECTS[each.dialect](group, each) for each in catalogue.build(Settings()).values()),
        *(Account(group, each) for each in catalogue.build(Settings()).values()),
        group,
        request,
        _entry(request, KEY),
        Reply.of_upstream(200, {}, BODY),
        parse("/v1/chat/completions", BODY),
        UpstreamRefused(400, BODY, {}),
        gevent.Greenlet(exchange()._upload, cast("Any", None)),
    ]


def test_no_repr_shows_a_key_or_a_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    for each in objects(monkeypatch):
        shown = f"{each!r} {each!s}"

        assert "very-secret" not in shown, type(each)
        assert PROMPT not in shown, type(each)
