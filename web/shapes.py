"""Our own errors leave in the shape of the provider that the caller speaks to."""

from __future__ import annotations

from flask import Response, current_app, request

from tasks.providers import catalogue, envelopes
from tasks.providers.catalogue import Provider, Providers


def provider() -> Provider:
    """The provider that the present request's path belongs to."""
    known: Providers = current_app.extensions["providers"]
    return catalogue.mounted(known, request.path)


def shape(response: Response, dialect: str) -> Response:
    """The response, its body told anew if it is an error of ours."""
    if dialect == "anthropic" and "x-request-id" in response.headers:
        response.headers.setdefault("request-id", response.headers["x-request-id"])  # as its SDK calls it
    if response.status_code >= 400 and dialect in envelopes.WRITERS:
        response.set_data(envelopes.shaped(dialect, response.status_code, response.get_data()))
    return response
