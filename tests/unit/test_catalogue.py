"""Providers are data; a file that is wrong is refused with its line."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from tasks import settings
from tasks.__main__ import main
from tasks.errors import SettingsError
from tasks.providers import catalogue
from tasks.settings import Settings


def build(path: Path, text: str) -> catalogue.Providers:
    file = path / "own.toml"
    file.write_text(text)
    return catalogue.build(Settings(providers_file=str(file)))


def test_the_shipped_file_holds_every_promised_provider() -> None:
    known = catalogue.build(Settings(upstream="https://api.example.com"))

    assert set(known) == {
        "openai", "azure", "azure-classic", "groq", "mistral", "together", "doubleword", "deepinfra", "nebius",
        "gemini", "gemini-openai", "anthropic",
    }  # fmt: skip
    assert known["openai"].base_url == "https://api.example.com"
    assert not known["azure"].open


def test_an_own_file_changes_single_keys_and_adds_providers(tmp_path: Path) -> None:
    known = build(
        tmp_path, '[groq]\nbase_url = "https://eu.groq.example"\n[acme]\nmount = "/acme"\nbase_url = "https://a.b"\n'
    )

    assert known["groq"].base_url == "https://eu.groq.example"
    assert known["groq"].max_mb == 100
    assert known["acme"].operation("/v1/chat/completions", "m", "") == "/chat/completions"


@pytest.mark.parametrize(
    ("text", "line", "sentence"),
    [
        ('[acme]\nmount = "/acme"\nmuont = 1\n', 3, "muont"),
        ('[acme]\nbase_url = "https://a.b"\n', 1, "mount"),
        ('[acme]\nmount = "/acme"\nbase_url = "a.b"\n', 3, "an http"),
        ('\n[acme]\nmount = "acme"\n', 3, "must be a path"),
        ('[acme]\nmount = "/groq"\n', 2, "is taken by .groq."),
        ('[acme]\nmount = "/stats/x"\n', 2, "by the proxy itself"),
        ('[acme]\nmount = "/acme"\nmax_mb = "big"\n', 3, "Expected `int`"),
        ('[acme]\nmount = "/acme"\nmax_mb = 0\n', 3, "above 0"),
        ('[acme]\nmount = "/acme"\nendpoints = ["/v1/audio"]\n', 3, "not /v1/audio"),
        ('[acme]\nmount = "/acme"\n[acme.create]\nfile = "{fiel}"\n', 3, "fiel"),
        ('[acme]\nmount = "/acme"\nfields = { output = "x" }\n', 3, "'output'"),
        ('[acme]\nmount = "/acme"\nfiles = "gemini"\n', 3, "files_url"),
        ('[acme]\nmount = "/acme"\ndialect = "french"\n', 3, "french"),
        ("[gemini]\ninline = true\n", 2, "below 20"),
        ('[Acme]\nmount = "/acme"\n', 1, "lower case"),
        ("acme = 3\n", 1, "a provider is a table"),
        ('[openai]\nmount = "/openai"\n', 2, "stays where it is"),
    ],
)
def test_a_wrong_file_is_refused_with_its_line_and_a_sentence(
    tmp_path: Path, text: str, line: int, sentence: str
) -> None:
    with pytest.raises(SettingsError, match=sentence) as caught:
        build(tmp_path, text)

    assert "LLM_PROXY_PROVIDERS_FILE: " in str(caught.value)
    assert f"own.toml, line {line}: " in str(caught.value)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"none\.toml: No such file"):
        catalogue.build(Settings(providers_file=str(tmp_path / "none.toml")))


def test_openais_address_is_the_upstream_unless_its_block_has_one(tmp_path: Path) -> None:
    assert build(tmp_path, "")["openai"].base_url == "https://api.openai.com"
    assert build(tmp_path, '[openai]\nbase_url = "https://a.b"\n')["openai"].base_url == "https://a.b"


def test_nothing_starts_with_a_wrong_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "own.toml").write_text('[acme]\nmount = "acme"\n')
    monkeypatch.setenv("LLM_PROXY_PROVIDERS_FILE", str(tmp_path / "own.toml"))
    monkeypatch.setenv("LLM_PROXY_VAULT_KEYS", "k" * 48)
    settings.settings.cache_clear()
    try:
        assert main(["worker"]) == 2
    finally:
        settings.settings.cache_clear()

    assert "own.toml, line 2: [acme] mount must be a path" in capsys.readouterr().err


def test_the_longest_mount_serves_a_path() -> None:
    known = catalogue.build(Settings())

    assert catalogue.mounted(known, "/gemini/v1beta/openai/models").name == "gemini-openai"
    assert catalogue.mounted(known, "/gemini/v1beta/models").name == "gemini"
    assert catalogue.mounted(known, "/groqq/v1").name == "openai"
    assert catalogue.mounted(known, "/v1/files").name == "openai"


def test_settings_of_today_have_no_own_file() -> None:
    assert {f.name: f.default for f in dataclasses.fields(Settings)}["providers_file"] == ""
