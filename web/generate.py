"""Gemini's calls become pipeline requests: the model and what is asked for stand in the path. Pure."""

from __future__ import annotations

import msgspec

from tasks.errors import InvalidRequest
from web import parsing
from web.parsing import ParsedBody

_list = msgspec.json.Decoder(list[msgspec.Raw])


def parse(action: str, body: bytes, model: str, alt: str | None) -> ParsedBody:
    """Read a body of `models/{model}:{action}`.

    Args:
        alt: the query's `alt`: how the answer is to be written.

    Raises:
        InvalidRequest: it is no JSON object, or asks for what no batch can do.
    """
    members = parsing.members_of(body)
    stream = action == "streamGenerateContent"
    if stream and alt != "sse":
        raise InvalidRequest("'alt' must be 'sse': a stream that is one JSON array is not told again.", param="alt")
    if alt not in {None, "json", "sse"} or (alt == "sse" and not stream):
        raise InvalidRequest(f"'alt' cannot be {alt!r} here.", param="alt")
    endpoint = "generateContent" if stream else action
    inputs = 1
    if action == "batchEmbedContents":
        try:
            inputs = len(_list.decode(members.get("requests", msgspec.Raw(b""))))
        except msgspec.MsgspecError:
            inputs = 0
        if not inputs or len(members) > 1:
            other = next((name for name in members if name != "requests"), "requests")
            raise InvalidRequest(
                f"'{other}' cannot be carried by a batch: give 'requests', and only that.", param=other
            )
    return ParsedBody(
        endpoint=endpoint,
        model=model,
        line=parsing.one_line(body),
        fingerprint=parsing.fingerprint(f"{model}:{endpoint}", body),
        inputs=inputs,
        stream=stream,
    )
