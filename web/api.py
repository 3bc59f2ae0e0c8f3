"""The batched endpoints: parse, accept, wait, reply."""

from __future__ import annotations

import functools
import itertools
import re

from flask import Flask, Response, current_app, request

from tasks import flex, vault
from tasks.errors import InvalidRequest, UnsupportedEncoding
from tasks.models import Attempt, Group, Lane, Request
from tasks.providers.catalogue import Provider, Providers
from tasks.settings import Settings
from web import bodies, carrying, clients, generate, messages, parsing, relay, tokens
from web.answer import Answer
from web.parsing import ParsedBody
from web.waiting import Front


def register(app: Flask) -> None:
    """Serve the batched endpoints of every provider that is open."""
    known: Providers = app.extensions["providers"]
    for provider in known.values():
        for endpoint, root in itertools.product(provider.endpoints, (provider.root, *provider.roots)):
            if not provider.open:
                continue
            rule = provider.mount + provider.operation(endpoint, "<model>", root)
            view = functools.partial(batched, provider, endpoint, root if root != provider.root else "")
            app.add_url_rule(rule, rule, view, methods=["POST"], provide_automatic_options=False)


def batched(provider: Provider, endpoint: str, root: str, model: str = "") -> Response:
    """Answer one request through a batch, or through the lane that it asks for.

    Args:
        root: that it came by, if it is not the provider's first.
        model: as the path has it, where it does.
    """
    caller = tokens.caller(provider)
    extra = carrying.carried(provider, request.headers, request.args, root)
    if extra is None or model in {".", ".."}:  # those are no names in a path
        return relay.relay()
    lane, max_wait = _lane(provider, endpoint), _max_wait()
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        # A small body could hold any number of megabytes.
        raise UnsupportedEncoding("A body with a Content-Encoding cannot be batched: send it uncompressed.")
    config: Settings = current_app.extensions["settings"]
    advice = f"{config.max_body_mb} MB, which LLM_PROXY_MAX_BODY_MB allows"
    body = bodies.read(request.environ["wsgi.input"], request.content_length, config.max_body_mb * 1_000_000, advice)
    parsed = _parse(provider, endpoint, body, model, lane)
    if parsed.background:
        return relay.relay(body=body)
    tries, patience = clients.tries(request.headers), clients.patience(request.headers, config)
    front: Front = current_app.extensions["front"]
    held = front.hold(
        Request(
            group=Group(
                credential=vault.reference(caller.credential, caller.allowance.label, provider.name),
                endpoint=parsed.endpoint,
                model="" if provider.mixed_models else parsed.model,
                organization=request.headers.get("OpenAI-Organization", ""),
                project=request.headers.get("OpenAI-Project", ""),
                max_wait_seconds=max_wait,
                provider=provider.name,
                extra=extra.encode(),
            ),
            body=parsed.line,
            fingerprint=_fingerprint(parsed, model, extra.encode()),
            inputs=parsed.inputs,
            lane=lane,
            idempotency_key=request.headers.get("Idempotency-Key", ""),
            attempt=Attempt.RETRY if tries else Attempt.FIRST,
            tries=tries,
            allowance=caller.allowance,
        ),
        caller.credential,
        request.environ.get("gunicorn.socket"),
    )
    return Answer(
        held,
        patience,
        dialect=provider.dialect,
        endpoint=parsed.endpoint,
        lane=lane,
        stream=parsed.stream,
        usage=parsed.include_usage,
    )


def _fingerprint(parsed: ParsedBody, model: str, extra: str) -> str:
    """What tells two requests of one caller apart: the body, and what stands beside it."""
    if not model and not extra:
        return parsed.fingerprint
    return parsing.fingerprint(f"{model} {extra}", parsed.fingerprint.encode())


def _parse(provider: Provider, endpoint: str, body: bytes, model: str, lane: Lane) -> ParsedBody:
    match provider.dialect:
        case "anthropic":
            return messages.parse(body, batched=lane is Lane.BATCH)
        case "gemini":
            return generate.parse(endpoint, body, model, request.args.get("alt"))
        case _:
            return parsing.parse(endpoint, body, model=model)


def _lane(provider: Provider, endpoint: str) -> Lane:
    """What `X-Batch-Mode` asks for.

    Raises:
        InvalidRequest: there is no such lane, or not for this endpoint.
    """
    mode = request.headers.get("X-Batch-Mode", Lane.BATCH)
    if mode not in set(Lane):
        raise InvalidRequest(f"X-Batch-Mode must be one of {', '.join(Lane)}.", param="X-Batch-Mode")
    if mode == Lane.FLEX and not provider.flex:
        raise InvalidRequest(f"X-Batch-Mode: flex is not to be had from {provider.name}.", param="X-Batch-Mode")
    if mode == Lane.FLEX and endpoint not in flex.ENDPOINTS:
        raise InvalidRequest(
            f"X-Batch-Mode: flex is there for {' and '.join(sorted(flex.ENDPOINTS))} only.", param="X-Batch-Mode"
        )
    return Lane(mode)


def _max_wait() -> float:
    """What `X-Batch-Max-Wait` allows, else GRACE_SECONDS.

    Raises:
        InvalidRequest: it is no number of seconds.
    """
    config: Settings = current_app.extensions["settings"]
    text = request.headers.get("X-Batch-Max-Wait")
    if text is None:
        return config.grace_seconds
    if not re.fullmatch(r"\d{1,9}(\.\d{1,3})?", text) or float(text) <= 0:
        raise InvalidRequest("X-Batch-Max-Wait must be a number of seconds above 0.", param="X-Batch-Max-Wait")
    return float(text)
