"""The HTTP surface, one blueprint per file; this module has what they share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

from flask import current_app, g, request

from tests.simulator.content import parse
from tests.simulator.errors import ApiError
from tests.simulator.state import State

T = TypeVar("T")

#: Lifetimes a caller may ask for in `expires_after` and `output_expires_after`.
MIN_EXPIRY_SECONDS = 3_600
MAX_EXPIRY_SECONDS = 2_592_000


def state() -> State:
    """The memory of the simulator that answers this request."""
    return cast("State", current_app.extensions["simulator"])


def caller() -> str:
    """The API key of this request."""
    return cast("str", g.key)


def json_body() -> dict[str, Any]:
    """The request's body, which must be a JSON object."""
    try:
        body = parse(request.get_data(cache=False))
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise ApiError(400, "We could not parse the JSON body of your request.")
    return body


def invalid(param: str, message: str) -> ApiError:
    """A 400 about one parameter."""
    return ApiError(400, f"Invalid '{param}': {message}.", param=param, code="invalid_value")


def expiry(param: str, anchor: object, seconds: object) -> int | None:
    """The lifetime asked for, checked; None if none is."""
    if anchor is None and seconds is None:
        return None
    if anchor != "created_at":
        raise invalid(f"{param}.anchor", "must be 'created_at'")
    try:
        lifetime = int(str(seconds))
    except ValueError:
        lifetime = 0
    if not MIN_EXPIRY_SECONDS <= lifetime <= MAX_EXPIRY_SECONDS:
        raise invalid(f"{param}.seconds", f"must be between {MIN_EXPIRY_SECONDS} and {MAX_EXPIRY_SECONDS}")
    return lifetime


def page(items: Sequence[T], identify: Callable[[T], str], show: Callable[[T], Any], most: int) -> dict[str, Any]:
    """One page of a list, by the query's `after` and `limit`."""
    try:
        limit = int(request.args.get("limit", min(most, 20) if most <= 100 else most))
    except ValueError:
        limit = 0
    if not 1 <= limit <= most:
        raise invalid("limit", f"must be between 1 and {most}")
    ids = [identify(item) for item in items]
    after = request.args.get("after")
    if after is not None and after not in ids:
        raise invalid("after", f"no such object '{after}'")
    start = 0 if after is None else ids.index(after) + 1
    shown = slice(start, start + limit)
    return {
        "object": "list",
        "data": [show(item) for item in items[shown]],
        "first_id": next(iter(ids[shown]), None),
        "last_id": next(iter(ids[shown][::-1]), None),
        "has_more": start + limit < len(ids),
    }
