"""An HTTP body becomes a pipeline request. Pure: bytes in, models out.

The body stays the caller's bytes. Only `model`, `stream`, `stream_options`, `background` and,
for embeddings, the number of inputs are looked at, and only `stream` and `stream_options` are taken out.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Final

import msgspec

from tasks.errors import InvalidRequest

#: Nesting beyond this is nobody's prompt. Decoders give up at some 900 levels, fewer where the stack is deep already:
#: what passes here passes in every process.
MOST_DEPTH: Final = 200
#: So many are looked at in some hundredths of a second.
MOST_CONTAINERS: Final = 500_000
#: OpenAI's default where `model` may be left out.
DEFAULT_MODEL: Final = {"/v1/moderations": "omni-moderation-latest"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedBody:
    """What the front must know of a body.

    Attributes:
        endpoint: by the name that groups carry.
        line: the body for the JSON line.
        stream: the caller expects server-sent events.
        include_usage: with a usage chunk at their end.
        background: the upstream is to answer at once and work later; such a call cannot be batched.
    """

    endpoint: str
    model: str
    line: bytes = field(repr=False)
    fingerprint: str
    inputs: int
    stream: bool = False
    include_usage: bool = False
    background: bool = False


Members = dict[str, msgspec.Raw]

OBJECT: Final = msgspec.json.Decoder(Members)
OBJECTS: Final = msgspec.json.Decoder(list[Members])
NULL: Final = msgspec.Raw(b"null")
_array = msgspec.json.Decoder(list[msgspec.Raw])
_bool = msgspec.json.Decoder(bool | None)
_string = msgspec.json.Decoder(str)
_STEPS: Final = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")
_ALL_BUT_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))
_options = msgspec.json.Decoder(dict[str, msgspec.Raw] | None)


def members_of(body: bytes) -> Members:
    """The members of the JSON object that a body is.

    Raises:
        InvalidRequest: it is none.
    """
    try:
        body.decode()
        members = OBJECT.decode(body)
    except UnicodeDecodeError:
        raise InvalidRequest("The body is not valid UTF-8.") from None
    except RecursionError:
        raise InvalidRequest("The body is nested too deeply.") from None
    except msgspec.ValidationError:
        raise InvalidRequest("The body must be a JSON object.") from None
    except msgspec.DecodeError as error:
        raise InvalidRequest(f"The body is not valid JSON: {error}.") from None
    _check_nesting(body)
    return members


def decode_object(raw: msgspec.Raw) -> Members:
    """The members of a value that is an object."""
    return OBJECT.decode(raw)


def one_line(text: bytes) -> bytes:
    """JSON text without line breaks between its tokens."""
    return msgspec.json.format(text, indent=-1) if b"\n" in text or b"\r" in text else text.strip()


def fingerprint(endpoint: str, body: bytes) -> str:
    """What tells two requests apart."""
    return blake2b(endpoint.encode() + b"\0" + body, digest_size=16).hexdigest()


def parse(endpoint: str, body: bytes, *, model: str = "") -> ParsedBody:
    """Read a body.

    Args:
        model: what the path names; without it, the body must.

    Raises:
        InvalidRequest: it is not a JSON object with a model.
    """
    members = members_of(body)
    stream = bool(_member(_bool, members, "stream", "true or false"))
    line = _without(members, "stream", "stream_options") if stream or "stream" in members else body
    if model:  # a line has no path to name it, and what the body calls it counts for nothing beside a path
        line = msgspec.json.encode({**OBJECT.decode(line), "model": model})
    return ParsedBody(
        endpoint=endpoint,
        model=model or _model(endpoint, members),
        line=one_line(line),
        fingerprint=fingerprint(endpoint, body),
        inputs=_inputs(members) if endpoint == "/v1/embeddings" else 1,
        stream=stream,
        include_usage=stream and _include_usage(members),
        background=bool(_member(_bool, members, "background", "true or false")),
    )


def _check_nesting(body: bytes) -> None:
    """Refuse valid JSON that is nested too deeply, or in too many pieces to be looked at.

    Raises:
        InvalidRequest: it is.
    """
    if body.count(b"[") + body.count(b"{") <= MOST_DEPTH:
        return  # nearly every body
    without_escapes = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    outside_strings = b"".join(without_escapes.split(b'"')[::2])
    brackets = outside_strings.translate(None, _ALL_BUT_BRACKETS)
    if len(brackets) > 2 * MOST_CONTAINERS:
        raise InvalidRequest(f"The body has more than {MOST_CONTAINERS} arrays and objects.")
    steps = memoryview(brackets.translate(_STEPS)).cast("b")  # signed: +1 and -1
    if max(itertools.accumulate(steps)) > MOST_DEPTH:
        raise InvalidRequest(f"The body is nested too deeply: at most {MOST_DEPTH} levels are taken.")


def _member(decoder: msgspec.json.Decoder[Any], members: Members, name: str, what: str) -> object:
    if name not in members:
        return None
    try:
        return decoder.decode(members[name])
    except msgspec.MsgspecError:
        raise InvalidRequest(f"'{name}' must be {what}.", param=name) from None


def _model(endpoint: str, members: Members) -> str:
    if "model" not in members:
        if endpoint in DEFAULT_MODEL:
            return DEFAULT_MODEL[endpoint]
        raise InvalidRequest("You must provide a model parameter.", param="model")
    model = _member(_string, members, "model", "a string")
    if not model:
        raise InvalidRequest("You must provide a model parameter.", param="model")
    return str(model)


def _include_usage(members: Members) -> bool:
    options = _member(_options, members, "stream_options", "an object")
    return isinstance(options, dict) and bool(_member(_bool, options, "include_usage", "true or false"))


def _inputs(members: Members) -> int:
    """A string or an array of token numbers is one input, any other array holds several."""
    raw = bytes(members.get("input", b"")).lstrip()
    if not raw.startswith(b"["):
        return 1
    items = _array.decode(raw)
    first = bytes(items[0]).lstrip()[:1] if items else b"0"
    return len(items) if first in b'"[{' else 1


def _without(members: Members, *names: str) -> bytes:
    """The object without some members; the values of the others keep their bytes and order."""
    pairs = (msgspec.json.encode(name) + b":" + bytes(raw) for name, raw in members.items() if name not in names)
    return b"{" + b",".join(pairs) + b"}"
