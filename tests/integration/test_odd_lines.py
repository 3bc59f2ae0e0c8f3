"""Result lines made to do harm: each is the affair of its own request, and of no other."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import openai
import pytest
import requests

from tests import ground
from tests.ground import Ground
from tests.integration.test_delivery_doubts import ask_many
from tests.integration.test_pipeline import batches_of
from tests.simulator.server import Simulator

CHAT = "/v1/chat/completions"
DEEP = "[" * 1_000_000 + "]" * 1_000_000  # no decoder follows; that of Python 3.14 goes to 200,000


@pytest.fixture(scope="module")
def own() -> Iterator[Ground]:
    with ground.opened() as opened:
        yield opened


@pytest.fixture
def upstream(own: Ground) -> Simulator:
    own.upstream.reset()
    return own.upstream


def post(own: Ground, model: str, **more: object) -> requests.Response:
    body = {"model": model, "messages": [{"role": "user", "content": "q"}], **more}
    return requests.post(own.stack.url + CHAT, json=body, headers={"Authorization": "Bearer sk-odd"}, timeout=60)


def answered(body: str, status: str = "200", request_id: str = '"req_1"') -> str:
    return f'{{"custom_id":"ID","response":{{"status_code":{status},"request_id":{request_id},"body":{body}}}}}'


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("page", "<html><body>ID</body></html>"),
        ("cut", answered("{")[:-5]),
        ("deep", answered(DEEP)),
        ("deep-error", f'{{"custom_id":"ID","error":{DEEP}}}'),
        ("deep-elsewhere", f'{{"custom_id":"ID","x":{DEEP},"response":null}}'),
        ("list", '["ID"]'),
        ("number", answered("{}").replace('"ID"', "7")),
        ("nul", "\0ID"),
        ("text-status", answered("{}", '"200"')),
        ("response-list", '{"custom_id":"ID","response":[200]}'),
        ("lone-surrogate", answered('"\\ud800"')),
    ],
)
def test_a_line_that_cannot_be_read_is_asked_once_more_and_the_others_are_answered(
    own: Ground, upstream: Simulator, name: str, line: str
) -> None:
    upstream.configure(ends=[{"model": name, "count": 1, "instead": line}])

    with openai.OpenAI(base_url=f"{own.stack.url}/v1", api_key="sk-odd", max_retries=0) as sdk:
        ask_many(sdk, name, 2)
        ask_many(sdk, f"{name}-after", 2)  # the worker is well

    assert len(batches_of(upstream, name)) == 2


@pytest.mark.parametrize("status", ["99", "-1", "600", "101", "100", "204", "304", "205", "99999", "9" * 300])
def test_a_status_that_could_put_readers_out_of_step_is_a_502(own: Ground, upstream: Simulator, status: str) -> None:
    smuggled = '"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\n{}"'
    upstream.configure(ends=[{"model": f"status{status[:9]}", "instead": answered(smuggled, status)}])
    answer = post(own, f"status{status[:9]}")

    assert answer.status_code == 502
    assert answer.json()["error"]["code"] == "bad_status"
    assert len(batches_of(upstream, f"status{status[:9]}")) == 1


@pytest.mark.parametrize("request_id", ['"a\\r\\nset-cookie: x=1"', '"\\u0000"', '"\\u20ac"', '"a\\nb"', "null"])
def test_a_request_id_never_becomes_another_header(own: Ground, upstream: Simulator, request_id: str) -> None:
    upstream.configure(ends=[{"model": "header", "instead": answered('{"fine":1}', request_id=request_id)}])
    answer = post(own, "header")

    assert answer.status_code == 200
    assert answer.json() == {"fine": 1}
    assert "set-cookie" not in answer.headers
    assert "x-request-id" not in answer.headers


@pytest.mark.parametrize(
    "body",
    [
        "null", "7", "[]", "{}", '{"choices":null}', '{"choices":[null]}', '{"choices":[{"index":0}]}',
        '{"choices":[{"index":0,"message":7}]}', '{"choices":{"a":1}}', '{"choices":[{"message":{"tool_calls":[7]}}]}',
        '{"output":[{"type":{}}]}', '"text that is no JSON"', "[" * 300 + "]" * 300,
    ],
)  # fmt: skip
@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_of_another_shape_is_handed_over_as_it_is(
    own: Ground, upstream: Simulator, body: str, stream: bool
) -> None:
    upstream.configure(ends=[{"model": "shape", "instead": answered(body)}])
    answer = post(own, "shape", stream=stream)

    assert answer.status_code == 200
    if not (stream and body.startswith('{"choices":[]')):
        assert answer.content.decode() == body.strip('"')


def test_a_file_of_lines_without_an_end_is_left_and_its_requests_are_asked_once_more(
    own: Ground, upstream: Simulator
) -> None:
    upstream.configure(ends=[{"model": "surplus", "count": 1, "surplus": 200_000}])

    with openai.OpenAI(base_url=f"{own.stack.url}/v1", api_key="sk-odd", max_retries=0) as sdk:
        ask_many(sdk, "surplus", 2)

    assert len(batches_of(upstream, "surplus")) == 2


def test_a_line_without_sense_is_told_of_a_few_times_and_not_for_each(own: Ground, upstream: Simulator) -> None:
    upstream.configure(ends=[{"model": "noise", "count": 1, "instead": "noise\n" * 3000}])
    before = own.stack.logs().count("cannot be read")

    with openai.OpenAI(base_url=f"{own.stack.url}/v1", api_key="sk-odd", max_retries=0) as sdk:
        ask_many(sdk, "noise", 1)

    assert own.stack.logs().count("cannot be read") - before <= 5 * 5


def test_an_answer_of_two_requests_at_once_reaches_each_in_step(own: Ground, upstream: Simulator) -> None:
    """Two requests on one connection, the first answered with a body that looks like an answer."""
    body = '"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\n{}"'
    upstream.configure(ends=[{"model": "looks-like", "instead": answered(body)}])
    text = b'{"model":"looks-like","messages":[]}'
    head = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer sk-odd\r\nContent-Length: {len(text)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", own.stack.port), timeout=30) as connection:
        stream = connection.makefile("rb")
        for _ in range(2):
            connection.sendall(head.encode() + text)
            assert stream.readline() == b"HTTP/1.1 200 OK\r\n"
            length = 0
            while (line := stream.readline()) != b"\r\n":
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            assert stream.read(length) == b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
