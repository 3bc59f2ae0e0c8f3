"""Access tokens over one upstream key: who gets in, how much each may have, and that none meets another's requests."""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pytest
import requests

from tasks import allowances, connections
from tests import running
from tests.integration.test_pipeline import batches_of
from tests.running import Stack, until
from tests.simulator.server import Simulator, serve

CHAT = "/v1/chat/completions"
UPSTREAM_KEY = "sk-of-the-organisation"


@dataclass
class House:
    """A stack with a token file."""

    stack: Stack
    upstream: Simulator
    redis: Any
    file: Path

    def write(self, *lines: str) -> None:
        """Put the file's lines, and wait until every process has read them: the first token tells."""
        probe = f"probe-{time.monotonic_ns()}"
        draft = self.file.with_suffix(".draft")
        draft.write_text("\n".join([line_of(probe, "probe"), *lines]) + "\n")
        draft.rename(self.file)
        until(lambda: all(self.get(probe).status_code == 200 for _ in range(12)), "the new file is read")

    def get(self, token: str, path: str = "/v1/models") -> requests.Response:
        return requests.get(self.stack.url + path, headers={"Authorization": f"Bearer {token}"}, timeout=30)

    def post(self, token: str, content: str = "hi", model: str = "m", **headers: str) -> requests.Response:
        body = {"model": model, "messages": [{"role": "user", "content": content}]}
        return requests.post(
            self.stack.url + CHAT, json=body, headers={"Authorization": f"Bearer {token}", **headers}, timeout=60
        )


def line_of(token: str, label: str, limits: str = "") -> str:
    return f"{label} {hashlib.sha256(token.encode()).hexdigest()} {limits}"


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    with (
        running.redis_server() as server,
        serve(validate_delay=0.1, batch_delay=0.3, finalize_delay=0.1) as upstream,
        running.short_directory() as directory,
    ):
        file = directory / "tokens"
        file.write_text(line_of("first", "first") + "\n")
        with running.running_stack(
            server.url,
            upstream.url,
            LLM_PROXY_ACCESS_TOKENS_FILE=str(file),
            LLM_PROXY_UPSTREAM_KEY=UPSTREAM_KEY,
        ) as stack:
            yield House(stack, upstream, server.client, file)


def test_a_token_gets_the_upstreams_answer_and_the_upstream_sees_its_own_key_only(house: House) -> None:
    house.write(line_of("t-answer", "answer", "relay=all"))
    with openai.OpenAI(base_url=f"{house.stack.url}/v1", api_key="t-answer") as sdk:
        answer = sdk.chat.completions.create(model="own", messages=[{"role": "user", "content": "hello"}])
        assert list(sdk.models.list())
    echoed = house.get("t-answer", "/v1/echo/headers")
    own = requests.get(
        f"{house.upstream.url}/v1/batches", headers={"Authorization": f"Bearer {UPSTREAM_KEY}"}, timeout=9
    )

    assert answer.choices[0].message.content == "echo:hello"
    [batch] = batches_of(house.upstream, "own")
    assert batch["lines"] == 1
    assert batch["id"] in {each["id"] for each in own.json()["data"]}
    sent = [value for name, value in echoed.json()["headers"] if name.lower() == "authorization"]
    assert sent == [f"Bearer {UPSTREAM_KEY}"]
    assert b"t-answer" not in echoed.content


@pytest.mark.parametrize("authorization", ["Bearer nobody", f"Bearer {UPSTREAM_KEY}", "Basic Zmlyc3Q6", "first"])
@pytest.mark.parametrize("path", [CHAT, "/v1/models", "/v1/files", CHAT + "?a=1", "/anything"])
def test_what_is_no_token_is_a_401_and_never_reaches_the_upstream(house: House, authorization: str, path: str) -> None:
    before = len(house.upstream.log())
    answer = requests.request(
        "POST" if path.startswith(CHAT) else "GET",
        house.stack.url + path,
        json={"model": "m"},
        headers={"Authorization": authorization},
        timeout=30,
    )

    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "invalid_api_key"
    assert len(house.upstream.log()) == before


@pytest.mark.parametrize("path", [CHAT, "/v1/models"])
def test_no_token_is_a_401(house: House, path: str) -> None:
    answer = requests.post(house.stack.url + path, json={"model": "m"}, timeout=30)

    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "missing_api_key"


def test_a_token_that_is_taken_out_of_the_file_is_refused_and_a_new_one_is_taken(house: House) -> None:
    house.write(line_of("t-old", "coming"))
    assert house.get("t-old").status_code == 200

    house.write(line_of("t-new", "coming"))

    assert house.get("t-old").status_code == 401
    assert house.get("t-new").status_code == 200


def test_a_file_that_makes_no_sense_changes_nothing_and_the_log_names_the_line_and_not_what_it_says(
    house: House,
) -> None:
    house.write(line_of("t-stays", "stays"))
    house.file.write_text("# ours\nsomebody t-not-hashed-at-all\n")

    def noticed() -> bool:
        house.get("t-stays")
        return "the access tokens stay as they were" in house.stack.logs()

    until(noticed, "it is noticed")
    assert house.get("t-stays").status_code == 200
    assert "line 2: its second word" in house.stack.logs()
    assert "t-not-hashed" not in house.stack.logs()


STORED = [
    ("GET", "/v1/files"),
    ("GET", "/v1/files/file-1/content"),
    ("DELETE", "/v1/files/file-1"),
    ("GET", "/v1/batches"),
    ("POST", "/v1/batches/batch-1/cancel"),
    ("GET", "/v1/chat/completions"),
    ("GET", "/v1/responses"),
    ("GET", "/v1/responses/../files"),
    ("GET", "/v1/responses/resp_1%2F..%2F..%2Ffiles"),
    ("GET", "/v1/models/../files"),
    ("GET", "/v1/models/..%2ffiles"),
    ("GET", "//v1/files"),
    ("GET", "/v1/models/%2e%2e/files"),
    ("GET", "/v1/organization/admin_api_keys"),
    ("DELETE", "/v1/models/m"),
]


@pytest.mark.parametrize(("method", "path"), STORED)
def test_what_others_have_stored_under_the_shared_key_is_not_open_to_a_token(
    house: House, method: str, path: str
) -> None:
    house.write(line_of("t-curious", "curious"))
    before = len(house.upstream.log())
    session = requests.Session()
    prepared = session.prepare_request(
        requests.Request(method, house.stack.url, headers={"Authorization": "Bearer t-curious"})
    )
    prepared.url = house.stack.url + path  # as it is written: requests would resolve the dots
    answer = session.send(prepared, timeout=30)

    assert answer.status_code == 403
    assert answer.json()["error"]["code"] == "not_for_this_token"
    assert [call for call in house.upstream.log()[before:] if call["path"] != "/v1/models"] == []


@pytest.mark.parametrize("header", ["OpenAI-Organization", "openai-project"])
def test_a_token_cannot_choose_another_account_of_the_shared_key(house: House, header: str) -> None:
    house.write(line_of("t-account", "account"))

    assert house.post("t-account", **{header: "x"}).status_code == 403


def test_an_operator_may_open_everything_to_a_token(house: House) -> None:
    house.write(line_of("t-trusted", "trusted", "relay=all"))

    assert house.get("t-trusted", "/v1/files").status_code == 200


def test_requests_per_minute_are_counted_over_all_processes_and_the_answer_says_when_to_come_again(
    house: House,
) -> None:
    house.write(line_of("t-rate", "rate", "requests_per_minute=10"))
    with ThreadPoolExecutor(15) as pool:
        answers = list(pool.map(lambda n: house.post("t-rate", f"q{n}", "rated"), range(15)))

    refused = [answer for answer in answers if answer.status_code != 200]
    assert [answer.status_code for answer in refused] == [429] * 5
    assert {answer.json()["error"]["code"] for answer in refused} == {"rate_limit_exceeded"}
    assert all(1 <= int(answer.headers["Retry-After"]) <= 7 for answer in refused)
    assert house.get("t-rate").status_code == 429  # relayed calls count, too
    assert sum(int(str(batch["lines"])) for batch in batches_of(house.upstream, "rated")) == 10


def test_relayed_calls_are_counted_per_minute(house: House) -> None:
    house.write(line_of("t-relayed", "relayed", "requests_per_minute=3"))

    assert sorted(house.get("t-relayed").status_code for _ in range(5)) == [200, 200, 200, 429, 429]


def test_so_many_requests_of_a_token_may_wait_and_another_one_when_one_is_answered(house: House) -> None:
    house.write(line_of("t-waits", "waits", "waiting=3"))
    house.upstream.configure(ends=[{"model": "slow", "stuck": "in_progress"}])
    with ThreadPoolExecutor(3) as pool:
        held = [pool.submit(house.post, "t-waits", f"q{n}", "slow") for n in range(3)]
        until(lambda: house.redis.hget("lp:label:waits", "waiting") == b"3", "three are waiting")
        refused = house.post("t-waits", "one more")
        until(lambda: sum(int(str(b["lines"])) for b in batches_of(house.upstream, "slow")) == 3, "they are submitted")
        house.upstream.finish()
        assert [answer.result().status_code for answer in held] == [200] * 3

    assert refused.status_code == 429
    assert refused.headers["Retry-After"]
    assert house.post("t-waits", "now").status_code == 200
    assert house.redis.hget("lp:label:waits", "waiting") is None


def test_a_retry_finds_its_request_although_nothing_more_may_wait(house: House) -> None:
    house.write(line_of("t-again", "again", "waiting=1"))
    house.upstream.configure(ends=[{"model": "again", "stuck": "in_progress"}])
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(house.post, "t-again", "q", "again", **{"Idempotency-Key": "mine"})
        until(lambda: batches_of(house.upstream, "again"), "it is submitted")
        second = pool.submit(house.post, "t-again", "q", "again", **{"Idempotency-Key": "mine"})
        until(lambda: house.redis.hget(request_key(house), "attached") == b"1", "the second has found it")
        house.upstream.finish()
        assert first.result().content == second.result().content


def request_key(house: House) -> bytes:
    [found] = [key for key in house.redis.keys("lp:request:*") if house.redis.hget(key, "label") == b"again"]
    return bytes(found)


def test_what_a_day_has_cost_is_compared_with_the_tokens_dollars(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.write(line_of("t-money", "money", "dollars_per_day=0.5"))
    assert house.post("t-money", "cheap").status_code == 200
    day = int(house.redis.time()[0]) // 86400

    monkeypatch.setattr(connections, "client", lambda: house.redis)
    allowances.spent(day, {"money": 500_000, "somebody-else": 1})
    answer = house.post("t-money", "dear")

    assert answer.status_code == 429
    assert answer.json()["error"]["code"] == "insufficient_quota"
    assert 0 < int(answer.headers["Retry-After"]) <= 86_401
    assert answer.headers["x-should-retry"] == "false"
    assert house.get("t-money").status_code == 429


def test_a_token_with_dollars_per_day_cannot_go_past_the_count(house: House) -> None:
    house.write(line_of("t-count", "count", "dollars_per_day=5"))
    headers = {"Authorization": "Bearer t-count"}
    body = {"model": "m", "messages": []}

    around = [
        requests.post(house.stack.url + CHAT + "?x=1", json=body, headers=headers, timeout=30),
        requests.post(house.stack.url + CHAT, json=body, headers={**headers, "OpenAI-Beta": "x"}, timeout=30),
        requests.post(
            house.stack.url + "/v1/responses", json={**body, "background": True}, headers=headers, timeout=30
        ),
        requests.post(house.stack.url + "/v1/images/generations", json=body, headers=headers, timeout=30),
    ]

    assert [answer.status_code for answer in around] == [403] * 4
    assert house.get("t-count").status_code == 200


def ids(house: House, *tokens: str, **headers: str) -> list[str]:
    """The task ids that equal requests of these tokens get, sent at once."""
    ready = threading.Barrier(len(tokens))

    def send(token: str) -> str:
        ready.wait()
        answer = house.post(token, "the same", "same", **headers)
        assert answer.status_code == 200
        assert json.loads(answer.content)["choices"]
        return answer.headers["x-batch-task-id"]

    with ThreadPoolExecutor(len(tokens)) as pool:
        return list(pool.map(send, tokens))


def test_two_tokens_over_one_key_never_meet_each_others_requests(house: House) -> None:
    """Neither by an Idempotency-Key, nor as a retry, nor in a batch, nor as an orphan's heir."""
    house.write(line_of("t-a", "a"), line_of("t-b", "b"), line_of("t-b2", "b"))
    key = {"Idempotency-Key": "k"}
    retry = {"x-stainless-retry-count": "1"}
    first_a, first_b = ids(house, "t-a", "t-b", **key)
    again_a, again_b = ids(house, "t-a", "t-b2", **key)
    retry_a, retry_b = ids(house, "t-a", "t-b", **retry)

    assert first_a != first_b
    assert (again_a, again_b) == (first_a, first_b)  # an old and a new token of one caller are one caller
    assert len({first_a, first_b, retry_a, retry_b}) == 4
    assert all(batch["lines"] == 1 for batch in batches_of(house.upstream, "same"))


@pytest.mark.parametrize("taker", ["t-heir", "t-stranger"])
def test_an_orphan_is_taken_by_its_own_caller_only(house: House, taker: str) -> None:
    house.write(line_of("t-heir", "heir"), line_of("t-stranger", "stranger"))
    model = f"orphan-{taker}"
    house.upstream.configure(ends=[{"model": model, "stuck": "in_progress"}])
    with pytest.raises(requests.ReadTimeout):
        requests.post(
            house.stack.url + CHAT,
            json={"model": model, "messages": [{"role": "user", "content": "left"}]},
            headers={"Authorization": "Bearer t-heir"},
            timeout=1.5,
        )
    until(lambda: batches_of(house.upstream, model), "it is submitted")
    with ThreadPoolExecutor(1) as pool:
        body = house.post
        answer = pool.submit(body, taker, "left", model, **{"x-stainless-retry-count": "1"})
        wanted = 1 if taker == "t-heir" else 2
        if wanted == 2:
            until(lambda: len(batches_of(house.upstream, model)) == 2, "the stranger's is one of its own")
        else:
            time.sleep(1)  # longer than a group is held: nothing new is submitted
        house.upstream.finish()
        assert answer.result().status_code == 200

    assert len(batches_of(house.upstream, model)) == wanted


def test_task_ids_cannot_be_guessed() -> None:
    """128 bits less six that say so."""
    from tasks.models import new_id

    made = {new_id() for _ in range(1000)}

    assert len(made) == 1000
    for position in set(range(32)) - {12, 16}:
        assert len({each[position] for each in made}) == 16


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("one", "line 1"),
        ("# a comment\n\none two", "line 3"),
        (line_of("t", "a") + "\n" + line_of("u", "b", "requests_per_hour=3"), "line 2"),
        ("", "holds no token"),
    ],
)
def test_a_wrong_file_is_refused_at_the_start_in_one_sentence(lines: str, words: str) -> None:
    with running.short_directory() as directory:
        (directory / "tokens").write_text(lines)
        process = running.start(
            "up",
            ["python", "-m", "tasks", "up"],
            {
                "PORT": str(running.free_port()),
                "LLM_PROXY_DATA_DIR": str(directory / "data"),
                "LLM_PROXY_ACCESS_TOKENS_FILE": str(directory / "tokens"),
                "LLM_PROXY_UPSTREAM_KEY": "sk-x",
            },
            directory,
        )
        assert process.popen.wait(60) == 2
        [sentence] = process.text().splitlines()

    assert words in sentence
    assert os.path.basename("tokens") in sentence
