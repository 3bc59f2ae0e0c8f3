"""The batch API's JSON lines: built by splicing bytes, read one line at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from tasks.errors import UpstreamTrouble

BOUNDARY = "llm-proxy-7f9c2ba4e88f827d616045507605853e"
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
#: Embeddings of the most inputs and dimensions stay below it.
MOST_LINE_BYTES = 150_000_000
CONTENT_TYPE = f"multipart/form-data; boundary={BOUNDARY}"


def line(request_id: str, endpoint: str, body: bytes) -> bytes:
    """One line of an input file; the body's bytes are the caller's."""
    return b'{"custom_id":"%s","method":"POST","url":"%s","body":%s}\n' % (request_id.encode(), endpoint.encode(), body)


def bare_line(request_id: str, body: bytes) -> bytes:
    """One line where the batch says method and endpoint."""
    return b'{"custom_id":"%s","body":%s}\n' % (request_id.encode(), body)


def form_head(filename: str, fields: dict[str, str]) -> bytes:
    """What precedes the file in a multipart form: the form is written once, to disk, and streamed from there."""
    parts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    ]
    parts.append(
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="{filename}"\r\n'
        "Content-Type: application/jsonl\r\n\r\n"
    )
    return "".join(parts).encode()


FORM_TAIL = f"\r\n--{BOUNDARY}--\r\n".encode()


def split_lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Lines without their end. Strictly at `\\n`: U+2028 and its kin may stand raw inside JSON strings.

    Raises:
        UpstreamTrouble: a line does not end; memory does.
    """
    rest: list[bytes] = []
    size, begun = 0, False
    for chunk in chunks:
        first, *more = chunk.split(b"\n")
        rest.append(first if begun else first.removeprefix(BYTE_ORDER_MARK))
        begun = True
        size += len(first)
        for part in more:
            yield b"".join(rest)
            rest, size = [part], len(part)
        if size > MOST_LINE_BYTES:
            raise UpstreamTrouble(f"a result line is longer than {MOST_LINE_BYTES} bytes", in_doubt=False)
    yield b"".join(rest)


class Response(msgspec.Struct):
    """What the upstream answered to one line."""

    status_code: int = 0
    request_id: str | None = None
    body: msgspec.Raw = msgspec.Raw(b"null")

    @property
    def body_bytes(self) -> bytes:
        """The body exactly as the upstream wrote it; some servers write it as a JSON string."""
        raw = bytes(self.body)
        return msgspec.json.decode(raw, type=str).encode() if raw.startswith(b'"') else raw

    @property
    def is_empty(self) -> bool:
        """Whether it has no body."""
        return bytes(self.body) in {b"null", b'""'}


class ResultLine(msgspec.Struct):
    """One line of an output or error file."""

    custom_id: str
    response: Response | None = None
    error: msgspec.Raw = msgspec.Raw(b"null")


_decoder = msgspec.json.Decoder(ResultLine)


def check_object(body: msgspec.Raw) -> None:
    """See that an answer is one.

    Raises:
        ValueError: it is missing, no object, or no UTF-8.
    """
    if not bytes(body).startswith(b"{"):
        raise ValueError("the answer is no object")
    bytes(body).decode()


def parse_result(text: bytes) -> ResultLine:
    """Read one line.

    Raises:
        ValueError: it is no result line.
    """
    result = _decoder.decode(text)
    if result.response is not None:
        result.response.body_bytes.decode()  # the line's other parts were checked by the decoder
    return result
