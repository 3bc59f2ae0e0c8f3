"""The file of access tokens: what a line may say, and that nothing of it is shown."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from tasks import access, allowances, vault
from tasks.__main__ import main
from tasks.access import Tokens
from tasks.errors import SettingsError
from tasks.models import Allowance
from tasks.settings import Settings

HASH = hashlib.sha256(b"secret").hexdigest()
OTHER = hashlib.sha256(b"other").hexdigest()


def read(tmp_path: Path, text: str) -> Tokens:
    path = tmp_path / "tokens"
    path.write_text(text)
    return Tokens(path)


def test_a_line_says_label_token_and_limits(tmp_path: Path) -> None:
    tokens = read(
        tmp_path, f"# ours\nteam-1 {HASH} waiting=5 requests_per_minute=60 dollars_per_day=2.5  # the eval people\n"
    )
    found = tokens.find("secret")

    assert found
    assert found.allowance == Allowance(
        label="team-1", requests_per_minute=60, waiting=5, micro_dollars_per_day=2_500_000
    )
    assert not found.relays_all
    assert tokens.find("Secret") is None
    assert tokens.find("") is None
    assert tokens.find(HASH) is None


@pytest.mark.parametrize(
    "line",
    [
        "team",
        f"{HASH}",
        f"te/am {HASH}",
        f"team {HASH[:-1]}",
        f"team {HASH.upper()}",
        "team sk-plain-token-by-mistake",
        f"team {HASH} waiting",
        f"team {HASH} waiting=0",
        f"team {HASH} waiting=-1",
        f"team {HASH} waiting=1 waiting=2",
        f"team {HASH} waiting=1e3",
        f"team {HASH} dollars_per_day=0",
        f"team {HASH} dollars_per_day=nan",
        f"team {HASH} relay=some",
        f"team {HASH} sk-plain-token-by-mistake",
        f"other {OTHER}",
        f"first {HASH[:-2]}aa waiting=7",
    ],
)
def test_a_line_that_makes_no_sense_is_refused_by_its_number_and_not_shown(tmp_path: Path, line: str) -> None:
    with pytest.raises(SettingsError, match="line 3") as caught:
        read(tmp_path, f"first {OTHER}\n\n{line}\n")

    assert "sk-plain" not in str(caught.value)


def test_a_file_that_is_not_there_or_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        Tokens(tmp_path / "none")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match="cannot be read"):
        Tokens(tmp_path / "binary")


def test_a_token_is_made_with_the_line_that_opens_to_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["access-token", "team-1"]) == 0
    token, line = (text.split(":", 1)[1].strip() for text in capsys.readouterr().out.splitlines())

    assert read(tmp_path, line + " waiting=3\n").find(token)
    assert len(token) >= 40
    assert token not in line


def test_a_label_with_odd_characters_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["access-token", "a b"]) == 1
    assert "label" in capsys.readouterr().err


def test_a_file_that_vanishes_leaves_the_tokens_as_they_were(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "LOOK_SECONDS", 0.0)
    tokens = read(tmp_path, f"team {HASH}\n")
    (tmp_path / "tokens").unlink()

    assert tokens.find("secret")
    (tmp_path / "tokens").write_text(f"team {OTHER}\n")
    assert tokens.find("secret") is None
    assert tokens.find("other")


@pytest.mark.parametrize("fields", [{"access_tokens_file": "f"}, {"upstream_key": "sk-x"}])
def test_tokens_and_the_upstreams_key_are_set_together(fields: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match="LLM_PROXY_ACCESS_TOKENS_FILE must be set together"):
        Settings(**fields)  # type: ignore[arg-type]  # both are strings


def test_nothing_of_a_token_is_in_the_reprs(tmp_path: Path) -> None:
    tokens = read(tmp_path, f"team {HASH}\n")

    assert HASH not in repr(tokens) + repr(tokens.find("secret"))


def test_usage_is_summed_by_references_that_lead_back_to_labels(tmp_path: Path) -> None:
    config = Settings(access_tokens_file="f", upstream_key="sk-x")
    tokens = read(tmp_path, f"team {HASH}\nother {OTHER}\n")

    found = allowances.labels(config, tokens, 8)

    assert found[vault.reference("Bearer sk-x", "team")[:8]] == "team"
    assert sorted(found.values()) == ["other", "team"]
