"""What is fuzzed: each target takes what a stranger sends and says what must hold, whatever that is."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Callable
from typing import Any, Final

import h11
from gunicorn.config import Config
from gunicorn.http import errors as broken
from gunicorn.http.parser import RequestParser
from hypothesis import strategies as st

from tasks import jsonl, outcomes
from tasks.errors import InvalidRequest, UpstreamTrouble
from tasks.models import Reply
from tasks.providers.catalogue import ENDPOINTS
from tests.fuzz import dialects, json_texts
from web import parsing, replies, sse
from web.incoming import IncomingRequest

Target = Callable[..., None]

# The body of a request

_FIELDS = st.sampled_from(["model", "stream", "stream_options", "include_usage", "background", "input", "messages"])
_MODELS = st.fixed_dictionaries({"model": st.text(min_size=1, max_size=5)}, optional={
    "stream": st.booleans(), "background": st.booleans(), "input": json_texts.values(_FIELDS),
    "stream_options": st.none() | st.dictionaries(_FIELDS, st.booleans(), max_size=2), "x": json_texts.values(_FIELDS),
})  # fmt: skip
BODY: Final = {
    "endpoint": st.sampled_from(ENDPOINTS["openai"]),
    "body": json_texts.texts(_MODELS) | json_texts.texts(json_texts.values(_FIELDS)) | st.binary(max_size=100),
}


def body(endpoint: str, body: bytes) -> None:
    """It is refused with a sentence, or its line is one line and means the same."""
    try:
        parsed = parsing.parse(endpoint, body)
    except InvalidRequest:
        return
    assert b"\n" not in parsed.line
    assert b"\r" not in parsed.line
    before, after = json.loads(body), json.loads(parsed.line)
    if parsed.stream or "stream" in before:
        before = {name: value for name, value in before.items() if name not in ("stream", "stream_options")}
    assert before == after
    assert parsed.model
    assert parsed.inputs >= 0


# The head of a request

_NAMES = st.sampled_from(
    ["Host", "Content-Length", "Transfer-Encoding", "Connection", "X-A", "Expect", "Content_Length"]
)
_PIECES = st.sampled_from([
    b"GET ", b"POST ", b"/v1/x", b" HTTP/1.1", b" HTTP/1.0", b"\r\n", b"\r\n\r\n", b"\n", b"\r", b" ", b"\t", b":",
    b"Host: x", b"Content-Length: 3", b"Content-Length: 0", b"Content-Length: +1", b"Content-Length: 3, 3", b"chunked",
    b"Transfer-Encoding: chunked", b"3\r\nabc\r\n", b"0\r\n\r\n", b"3;a=b\r\n", b"X-A: 1", b"abc", b"\x00", b"\xff",
    b"Trailer: x\r\n",
])  # fmt: skip


@st.composite
def _framed(draw: st.DrawFn) -> bytes:
    """A request that is right, with what may follow it."""
    body = draw(st.binary(max_size=8))
    headers = draw(st.lists(st.sampled_from([b"X-A: 1", b"x-a:2", b"X-B: \xff", b"Connection: close"]), max_size=3))
    if draw(st.booleans()):
        framing = b"Content-Length: %d" % len(body)
    else:
        framing, cut = b"Transfer-Encoding: chunked", draw(st.integers(0, len(body)))
        body = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:cut], body[cut:]) if part) + b"0\r\n\r\n"
    start = draw(st.sampled_from([b"POST /v1/x?a=%2f HTTP/1.1", b"GET / HTTP/1.1", b"OPTIONS * HTTP/1.1"]))
    return b"\r\n".join([start, b"Host: x", *headers, framing, b"", b""]) + body + draw(st.just(b"") | _PIECES)


@st.composite
def _requests(draw: st.DrawFn) -> bytes:
    """A request that is nearly right."""
    lines = [b"POST /v1/x HTTP/1.1", b"Host: x"]
    for name in draw(st.lists(_NAMES, max_size=4)):
        lines.append(name.encode() + b": " + draw(st.sampled_from([b"0", b"3", b"chunked", b"close", b"x", b"3, 3"])))
    text = b"\r\n".join(lines) + b"\r\n\r\n" + b"".join(draw(st.lists(_PIECES, max_size=4)))
    at = draw(st.integers(0, len(text)))
    return text[:at] + draw(st.just(b"") | st.just(b"") | _PIECES | st.binary(max_size=3)) + text[at:]


HEAD: Final = {
    "text": _requests() | _framed() | st.lists(_PIECES, max_size=14).map(b"".join) | st.binary(max_size=200),
    "cuts": st.lists(st.integers(0, 300), max_size=4),
}
_config = Config()
_config.set("permit_unconventional_http_method", True)
REFUSED: Final = (broken.ParseException, broken.NoMoreData, InvalidRequest, StopIteration)


def head(text: bytes, cuts: list[int]) -> None:
    """It is refused, or is the request that another parser reads, to the same end."""
    bounds = sorted({0, *(cut for cut in cuts if cut < len(text)), len(text)})
    chunks = [text[a:b] for a, b in itertools.pairwise(bounds)]
    RequestParser.mesg_class = IncomingRequest
    parser = RequestParser(_config, iter(chunks), ("127.0.0.1", 1))
    try:
        request = next(parser)
        request.body.invitation_due = False  # there is no socket to invite by
        read = request.body.read()
    except REFUSED:
        return
    other = _by_h11(text)
    if other is None:  # it takes less, which is no disagreement
        return
    assert (request.method.encode(), request.uri.encode("latin-1"), read) == other


def _by_h11(text: bytes) -> tuple[bytes, bytes, bytes] | None:
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    connection.receive_data(text)
    connection.receive_data(b"")
    found: h11.Request | None = None
    parts: list[bytes] = []
    try:
        while True:
            match connection.next_event():
                case h11.Request() as found:
                    pass
                case h11.Data() as data:
                    parts.append(bytes(data.data))
                case h11.EndOfMessage():
                    assert found
                    return found.method, found.target, b"".join(parts)
                case _:
                    return None
    except h11.RemoteProtocolError:
        return None


# A result file

_LINE_FIELDS = st.sampled_from(
    ["custom_id", "response", "status_code", "request_id", "body", "error", "code", "message", "id"]
)
_LINES = st.fixed_dictionaries({
    "custom_id": st.text(max_size=4),
    "response": st.fixed_dictionaries({
        "status_code": st.integers(-5, 700), "request_id": st.none() | st.text(max_size=5),
        "body": json_texts.values(_LINE_FIELDS),
    }) | st.none(),
    "error": json_texts.values(_LINE_FIELDS),
})  # fmt: skip
FILE: Final = {
    "data": st.lists(
        json_texts.texts(_LINES) | json_texts.texts(json_texts.values(_LINE_FIELDS)) | st.binary(max_size=30),
        max_size=6,
    ).map(b"\n".join),
    "size": st.integers(1, 64),
    "status": st.sampled_from(["completed", "expired", "cancelled", "failed", ""]),
}


def file(data: bytes, size: int, status: str) -> None:
    """Pieces of any size give the same lines; each is read, or cannot be read, and its reply can be passed on."""
    lines = list(jsonl.split_lines(data[at : at + size] for at in range(0, len(data), size)))
    assert b"\n".join(lines) == data.removeprefix(jsonl.BYTE_ORDER_MARK) or size < len(jsonl.BYTE_ORDER_MARK)
    for text in lines:
        with contextlib.suppress(ValueError, RecursionError, UpstreamTrouble):
            end = outcomes.line_end(jsonl.parse_result(text), upstream_id="batch_1", upstream_status=status)
            if end.reply is not None:
                assert 200 <= end.reply.status < 600
                assert end.reply.status not in outcomes.BODILESS
                replies.to_response(end.reply, task_id="t", lane="batch", waited_ms=1).get_wsgi_headers({})


# An answer that is told as events

_ANSWER_FIELDS = st.sampled_from([
    "choices", "message", "content", "tool_calls", "index", "finish_reason", "usage", "output", "type", "summary",
    "annotations", "logprobs", "text", "arguments", "name", "role", "id", "status",
])  # fmt: skip
_CALLS = st.lists(
    st.fixed_dictionaries({"id": st.text(max_size=3), "function": json_texts.values(_ANSWER_FIELDS)}), max_size=2
)
_CHOICE = st.fixed_dictionaries(
    {"index": st.integers(0, 3)},
    optional={
        "message": st.fixed_dictionaries(
            {"content": st.none() | st.text(max_size=5)}, optional={"tool_calls": _CALLS, "role": st.text(max_size=3)}
        ),
        "finish_reason": st.none() | st.text(max_size=4),
        "logprobs": json_texts.values(_ANSWER_FIELDS),
    },
)
_PART = st.fixed_dictionaries(
    {
        "type": st.sampled_from(["output_text", "refusal", "x"]),
        "text": st.text(max_size=4),
        "refusal": st.text(max_size=4),
    },
    optional={"annotations": st.lists(st.dictionaries(_ANSWER_FIELDS, st.integers(), max_size=2), max_size=2)},
)
_ITEM = st.fixed_dictionaries(
    {"type": st.sampled_from(["message", "function_call", "custom_tool_call", "reasoning", "x"])},
    optional={
        "id": st.text(max_size=4), "status": st.text(max_size=4), "content": st.none() | st.lists(_PART, max_size=2),
        "arguments": st.text(max_size=4), "name": st.text(max_size=4), "input": st.text(max_size=4),
        "summary": st.lists(st.fixed_dictionaries({"text": st.text(max_size=4)}), max_size=2),
    },
)  # fmt: skip
_ANSWERS = st.fixed_dictionaries({
    "choices": st.lists(_CHOICE, max_size=3), "output": st.lists(_ITEM, max_size=3), "id": st.text(max_size=3),
}, optional={
    "usage": json_texts.values(_ANSWER_FIELDS), "status": st.sampled_from(["completed", "failed", "x"]),
})  # fmt: skip
ANSWER: Final = {
    "endpoint": st.sampled_from(sorted(sse.STREAMS)),
    "body": json_texts.texts(_ANSWERS)
    | json_texts.texts(st.dictionaries(_ANSWER_FIELDS, json_texts.values(_ANSWER_FIELDS), max_size=5)),
}


def answer(endpoint: str, body: bytes) -> None:
    """It becomes events, each of them one line of JSON, or stays as it is."""
    reply = Reply.of_upstream(200, {}, body)
    told = replies.streamed(reply, endpoint, include_usage=True)
    if told is reply:
        return
    for event in told.body.removesuffix(b"\n\n").split(b"\n\n"):
        data = event.split(b"data: ", 1)[1]
        assert data == b"[DONE]" or isinstance(_loads(data), dict)


def _loads(data: bytes) -> Any:
    return json.loads(data)


#: name -> (target, its strategies)
PURE: Final[dict[str, tuple[Target, dict[str, st.SearchStrategy[Any]]]]] = {
    "body": (body, BODY),
    "head": (head, HEAD),
    "file": (file, FILE),
    "answer": (answer, ANSWER),
    "dialects' bodies": (dialects.body, dialects.BODY),
    "dialects' answers": (dialects.answer, dialects.ANSWER),
    "dialects' results": (dialects.results, dialects.RESULTS),
}
