"""POST /webhooks/openai: the upstream says that a batch has ended, signed by Standard Webhooks."""

from __future__ import annotations

from typing import Any

import msgspec
from flask import Blueprint, Response, current_app, jsonify, request
from standardwebhooks import Webhook, WebhookVerificationError

from tasks import hints
from tasks.errors import InvalidRequest, Replayed, UnknownPath, WrongSignature
from tasks.settings import Settings
from web import bodies

bp = Blueprint("webhooks", __name__)

PATH = "/webhooks/openai"
#: An event is a few hundred bytes.
MOST_BYTES = 65_536


@bp.post(PATH, provide_automatic_options=False)
def openai() -> Response:
    """Take an event; one about a batch that is not ours is none of our business, and fine."""
    config: Settings = current_app.extensions["settings"]
    if not config.webhook_secrets:
        raise UnknownPath(f"{PATH} is closed: set LLM_PROXY_WEBHOOK_SECRETS to the secret that the upstream shows.")
    advice = f"{MOST_BYTES} bytes, which no event is"
    body = bodies.read(request.environ["wsgi.input"], request.content_length, MOST_BYTES, advice)
    _verify(config.webhook_secrets, body)
    upstream_id = _batch_of(body)
    if upstream_id and hints.ended(request.headers["webhook-id"], upstream_id) == "replayed":
        raise Replayed("This event was received before.")
    return jsonify(status="ok")


def _verify(secrets: tuple[str, ...], body: bytes) -> None:
    """Any of the secrets may have signed it, so that they can be changed.

    Raises:
        WrongSignature: none has, or it was signed more than five minutes ago.
    """
    for secret in secrets:
        try:
            Webhook(secret).verify(body, dict(request.headers), json_parse=False)
        except (WebhookVerificationError, ValueError):
            continue  # also what is no base64, no number or no UTF-8
        return
    raise WrongSignature("The signature does not belong to this event and LLM_PROXY_WEBHOOK_SECRETS, or is too old.")


def _batch_of(body: bytes) -> str:
    """The upstream's id of the batch that the event is about; empty for other events.

    Raises:
        InvalidRequest: it is no event.
    """
    try:
        event: Any = msgspec.json.decode(body)
        kind, data = event["type"], event.get("data")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise InvalidRequest("The body is no webhook event.") from None
    about = data.get("id") if isinstance(data, dict) else None
    return about if isinstance(about, str) and str(kind).startswith("batch.") else ""
