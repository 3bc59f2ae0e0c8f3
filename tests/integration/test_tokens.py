"""Access tokens over one upstream key: who gets in, and what each may see."""

from __future__ import annotations

import os
from collections.abc import Iterator

import openai
import pytest
import requests

from tests import running
from tests.integration.house import CHAT, UPSTREAM_KEY, House, line_of, opened
from tests.integration.test_pipeline import batches_of
from tests.ports import free_port
from tests.running import until


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    with opened() as made:
        yield made


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


MESSAGES, GENERATE = "/anthropic/v1/messages", "/gemini/v1beta/models/m:generateContent"
#: Where, and with which headers, a key is brought to the other providers; batched ones first.
AT_OTHERS = [
    (MESSAGES, {"x-api-key": "{}"}),
    (MESSAGES, {"Authorization": "Bearer {}"}),
    (GENERATE, {"x-goog-api-key": "{}"}),
    (GENERATE + "?key={}", {}),
    ("/gemini/v1beta/openai/chat/completions", {"Authorization": "Bearer {}"}),
    ("/groq/openai/v1/chat/completions", {"Authorization": "Bearer {}"}),
    ("/azure/openai/v1/chat/completions", {"api-key": "{}"}),
    (MESSAGES + "?unknown=1", {"x-api-key": "{}"}),
    ("/anthropic/v1/files", {"x-api-key": "{}"}),
    ("/gemini/v1beta/files?key={}", {}),
    ("/groq/openai/v1/models", {"Authorization": "Bearer {}"}),
    ("/azure/v1/models", {"api-key": "{}"}),
]


def at_another(house: House, path: str, headers: dict[str, str], key: str) -> requests.Response:
    return requests.post(
        house.stack.url + path.format(key),
        json={"model": "m", "messages": [], "contents": []},
        headers={name: value.format(key) for name, value in headers.items()},
        timeout=30,
    )


@pytest.mark.parametrize(("path", "headers"), AT_OTHERS)
def test_a_token_is_good_for_nothing_at_other_providers_and_goes_to_none(
    house: House, path: str, headers: dict[str, str]
) -> None:
    house.write(line_of("t-abroad", "abroad", "relay=all"))
    before = len(house.upstream.log())

    answer = at_another(house, path, headers, "t-abroad")

    assert answer.status_code == 403
    assert "access token" in answer.json()["error"]["message"]
    assert path.split("/")[1] in answer.json()["error"]["message"]
    assert len(house.upstream.log()) == before


@pytest.mark.parametrize(("path", "headers"), AT_OTHERS)
@pytest.mark.parametrize("key", ["sk-of-ones-own", UPSTREAM_KEY])
def test_without_a_token_nobody_gets_to_other_providers_either(
    house: House, path: str, headers: dict[str, str], key: str
) -> None:
    before = len(house.upstream.log())

    assert at_another(house, path, headers, key).status_code == 401
    assert at_another(house, path.partition("?")[0], {}, key).status_code == 401
    assert len(house.upstream.log()) == before


def test_a_token_that_stands_in_the_headers_of_other_providers_too_is_sent_in_none(house: House) -> None:
    house.write(line_of("t-twice", "twice", "relay=all"))
    names = ("Authorization", "x-api-key", "api-key", "X-Goog-Api-Key")
    echoed = requests.get(
        f"{house.stack.url}/v1/echo/headers", headers=dict.fromkeys(names, "Bearer t-twice"), timeout=30
    )

    assert echoed.status_code == 200
    assert b"t-twice" not in echoed.content


@pytest.mark.parametrize("header", ["OpenAI-Organization", "openai-project"])
def test_a_token_cannot_choose_another_account_of_the_shared_key(house: House, header: str) -> None:
    house.write(line_of("t-account", "account"))

    assert house.post("t-account", **{header: "x"}).status_code == 403


def test_an_operator_may_open_everything_to_a_token(house: House) -> None:
    house.write(line_of("t-trusted", "trusted", "relay=all"))

    assert house.get("t-trusted", "/v1/files").status_code == 200


@pytest.mark.parametrize("command", ["up", "worker"])
@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("one", "line 1"),
        ("# a comment\n\none two", "line 3"),
        (line_of("t", "a") + "\n" + line_of("u", "b", "requests_per_hour=3"), "line 2"),
        ("", "holds no token"),
    ],
)
def test_a_wrong_file_is_refused_at_the_start_in_one_sentence(lines: str, words: str, command: str) -> None:
    with running.short_directory() as directory:
        (directory / "tokens").write_text(lines)
        process = running.start(
            command,
            ["python", "-m", "tasks", command],
            {
                "PORT": str(free_port()),
                "LLM_PROXY_VAULT_KEYS": running.VAULT_KEY,
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
