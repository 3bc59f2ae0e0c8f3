"""Settings: complete or refused, read in one place, described in README."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from tasks.errors import SettingsError
from tasks.settings import Settings, variable

ROOT = Path(__file__).parents[2]


def test_without_variables_everything_has_a_default() -> None:
    settings = Settings.from_env({})

    assert settings.port == 3030
    assert settings.embedded


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "http"),
        ("PORT", "70000"),
        ("LLM_PROXY_UPSTREAM", "api.openai.com"),
        ("LLM_PROXY_UPSTREAM", "https://api.openai.com/v1"),
        ("LLM_PROXY_MAX_BATCH_REQUESTS", "50001"),
        ("LLM_PROXY_MAX_BATCH_REQUESTS", "0"),
        ("LLM_PROXY_MAX_BATCH_MB", "201"),
        ("LLM_PROXY_MAX_HOLD_SECONDS", "-1"),
        ("LLM_PROXY_POLL_MIN_SECONDS", "31"),
        ("LLM_PROXY_RESULT_TTL_SECONDS", "0"),
        ("LLM_PROXY_LOG_LEVEL", "LOUD"),
        ("LLM_PROXY_REDIS_TLS_VERIFY", "maybe"),
        ("REDIS_URL", "localhost:6379"),
    ],
)
def test_a_value_out_of_range_is_refused_with_the_variables_name(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name):
        Settings.from_env({name: value})


def test_a_misspelt_setting_is_refused() -> None:
    with pytest.raises(SettingsError, match="LLM_PROXY_MAX_HOLD is not a setting"):
        Settings.from_env({"LLM_PROXY_MAX_HOLD": "4"})


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("LLM_PROXY_MAX_HOLD_SECOND", "did you mean LLM_PROXY_MAX_HOLD_SECONDS?"),
        ("LLM_PROXY_VAULT_KEY_FILE", "did you mean LLM_PROXY_VAULT_KEYS_FILE?"),
        ("LLM_PROXY_XYZ", "see the table in README.md"),
    ],
)
def test_a_misspelt_setting_is_told_from_what_was_meant(name: str, meant: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_env({name: "4"})

    assert str(caught.value).startswith(f"{name} is not a setting of llm-proxy: {meant}")


@pytest.mark.parametrize("name", ["LLM_PROXY_UPSTREAM_KEY", "LLM_PROXY_ACCESS_TOKENS_FILE"])
def test_half_of_a_pair_is_refused_with_its_other_half(name: str) -> None:
    with pytest.raises(SettingsError, match="ACCESS_TOKENS_FILE must be set together with LLM_PROXY_UPSTREAM_KEY"):
        Settings.from_env({name: "x"})


def test_a_secret_may_come_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("one,two\n")
    settings = Settings.from_env({"LLM_PROXY_VAULT_KEYS_FILE": str(tmp_path / "keys")})

    assert settings.vault_keys == ("one", "two")


def test_an_unreadable_secret_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot read"):
        Settings.from_env({"LLM_PROXY_VAULT_KEYS_FILE": str(tmp_path / "none")})


def test_secrets_are_not_in_the_repr() -> None:
    shown = repr(Settings(vault_keys=("hush",), redis_url="redis://:hush@localhost"))

    assert "hush" not in shown


def test_a_data_directory_too_long_for_a_socket_is_refused() -> None:
    with pytest.raises(SettingsError, match="shorter"):
        Settings(data_dir=Path("/" + "x" * 120))


def test_readmes_table_names_every_setting_with_its_default() -> None:
    readme = (ROOT / "README.md").read_text()
    for field in dataclasses.fields(Settings):
        default = str(field.default).lower() if isinstance(field.default, bool) else field.default
        shown = "" if default in ("", ()) else f"`{default:g}`" if isinstance(default, float) else f"`{default}`"
        assert f"| `{variable(field.name)}` | {shown} | {field.metadata['help']} |".replace("|  |", "| |") in readme
