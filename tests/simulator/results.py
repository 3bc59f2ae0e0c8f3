"""Writes the output and the error file of a batch that has come to its end."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from tempfile import TemporaryFile
from typing import IO, Any

from tests.simulator.answers import answer, usage_of
from tests.simulator.content import Content, freeze, parse
from tests.simulator.greenlets import breathe
from tests.simulator.ledger import digest
from tests.simulator.lifecycle import Batch, Status
from tests.simulator.prompts import Body, carries, failure
from tests.simulator.validation import Line

#: status of the batch -> why the rest of its lines did not run
NOT_RUN: dict[Status, tuple[str, str]] = {
    Status.EXPIRED: ("batch_expired", "This request could not be executed before the completion window expired."),
    Status.CANCELLED: ("batch_cancelled", "This request was not executed because the batch was cancelled."),
}
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
WEB_PAGE = b"<!DOCTYPE html><html><body><h1>502 Bad Gateway</h1></body></html>\n"

Bill = Callable[[str, str], None]

_ENCODER = json.JSONEncoder(separators=(",", ":"))


@dataclass
class Results:
    """The two files and what the lines in them cost."""

    output: Content
    error: Content
    input_tokens: int
    output_tokens: int


class Writer:
    """Writes lines while the counts of scripted oddities run down."""

    def __init__(self, batch: Batch, at: float) -> None:
        self._endpoint = batch.endpoint
        self._config = batch.config
        self._end = batch.end
        self._at = at
        self._to_drop = batch.end.drop
        self._to_garble = batch.end.garble
        self._to_rename = batch.end.rename
        self.input_tokens = 0
        self.output_tokens = 0

    def run(self, line: Line, body: Body, output: IO[bytes], error: IO[bytes]) -> bool:
        """Answer one line into the file where it belongs; True if it is billed."""
        failed = failure(self._endpoint, body, batched=True)
        if failed:
            text = encode(self._failed(line, *failed))
            (output if self._end.errors_in_output else error).write(text)
            return False
        reply = answer(self._endpoint, body, self._config, self._at)
        asked, said = usage_of(reply)
        self.input_tokens += asked
        self.output_tokens += said
        text = self._text(line.custom_id, reply)
        if self._to_drop > 0:
            self._to_drop -= 1
        elif self._to_garble > 0:
            self._to_garble -= 1
            output.write(text[: len(text) // 2] + b"\n")
        elif not carries(body, "drop"):
            output.write(text * 2 if carries(body, "dup-line") else text)
        return True

    def _text(self, custom_id: str, reply: Any) -> bytes:
        """An output line, with all that is odd about the lines of this batch."""
        if self._to_rename > 0:
            self._to_rename -= 1
            custom_id = f"nobody-{self._to_rename}"
        if self._end.instead:
            return self._end.instead.replace("ID", custom_id).encode() + b"\n"
        text = self._ended(encode(_line(custom_id, response=self._response(200, reply))))
        if self._end.twice:
            other = {**reply, "choices": [], "id": f"second-{uuid.uuid4().hex}"}
            text += self._ended(encode(_line(custom_id, response=self._response(200, other))))
        return text

    def _ended(self, text: bytes) -> bytes:
        end = self._end
        text = text[:1] + b" " * end.pad + text[1:]
        return b"\n" * end.blank_lines + (text[:-1] + b"\r\n" if end.crlf else text)

    def strangers(self, output: IO[bytes]) -> None:
        """Lines that answer nobody's question in this batch."""
        for custom_id in self._end.strangers:
            reply = {"id": f"stranger-{uuid.uuid4().hex}", "object": "chat.completion", "choices": []}
            output.write(self._ended(encode(_line(custom_id, response=self._response(200, reply)))))
        for number in range(self._end.surplus):
            output.write(b'{"custom_id":"nobody-%d","response":{"status_code":200,"body":{}}}\n' % number)

    def _failed(self, line: Line, status: int, body: Any) -> dict[str, Any]:
        """A line that got a 4xx or 5xx, in the shape of OpenAI or of some server of its dialect."""
        if not self._end.error_line:
            return _line(line.custom_id, response=self._response(status, body))
        problem = {"code": body["error"]["code"] or str(status), "message": body["error"]["message"]}
        entry = _line(line.custom_id, error=problem)
        if self._end.error_line == "no_response":
            del entry["response"]
        return entry

    def _response(self, status: int, body: Any) -> dict[str, Any]:
        shown = json.dumps(body) if self._end.body_as_string else body
        return {"status_code": status, "request_id": f"req_{uuid.uuid4().hex}", "body": shown}


def write(batch: Batch, status: Status, at: float, bill: Bill) -> Results:
    """Answer the lines that ran, charge for their successes and say of the others why they did not run."""
    writer, lines = Writer(batch, at), batch.checked.lines
    with TemporaryFile() as output, TemporaryFile() as error:
        output.write(BYTE_ORDER_MARK if batch.end.bom else b"")
        writer.strangers(output)
        for step, line in enumerate(lines[: batch.ran]):
            breathe(step)
            body = parse(batch.input.content[line.start : line.end])["body"]
            if writer.run(line, body, output, error):
                bill(digest(batch.endpoint, body), line.custom_id)
        if status in NOT_RUN and not batch.end.omit_unfinished:
            code, message = NOT_RUN[status]
            for line in lines[batch.ran :]:
                error.write(encode(_line(line.custom_id, error={"code": code, "message": message})))
        if batch.end.no_last_newline and output.tell():
            output.truncate(output.tell() - 1)
        if batch.end.empty_output:
            output.truncate(0)
        page = WEB_PAGE if batch.end.html else None
        return Results(page or freeze(output), freeze(error), writer.input_tokens, writer.output_tokens)


def encode(entry: dict[str, Any]) -> bytes:
    """One line of a file."""
    return _ENCODER.encode(entry).encode() + b"\n"


def _line(custom_id: str, *, response: Any = None, error: Any = None) -> dict[str, Any]:
    return {"id": f"batch_req_{uuid.uuid4().hex}", "custom_id": custom_id, "response": response, "error": error}
