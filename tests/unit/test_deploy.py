"""Image, compose file, balancer, Procfile and app.json agree with the code and with each other."""

from __future__ import annotations

import json
import re
import secrets
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import pytest
import yaml

from tasks import __main__, stack, vault
from tasks.settings import Settings
from web.waiting import DEADLINE_MARGIN_SECONDS

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
BALANCER = (ROOT / "examples/deploy/haproxy.cfg").read_text()
PROCFILE = {
    name: shlex.split(command)
    for name, command in (line.split(": ", 1) for line in (ROOT / "Procfile").read_text().splitlines())
}
APP: dict[str, Any] = json.loads((ROOT / "app.json").read_text())
STAGES = set(re.findall(r"^FROM \S+ AS (\S+)$", DOCKERFILE, re.M))


def last_command() -> list[str]:
    return cast("list[str]", json.loads(re.findall(r"^CMD (\[.*\])$", DOCKERFILE, re.M)[-1]))


def sources(service: dict[str, Any]) -> list[str]:
    """What a service mounts, but for anonymous volumes."""
    return [volume.split(":")[0] for volume in service.get("volumes", []) if ":" in volume]


def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    run = subprocess.run(
        [Path(sys.executable).parent / "hadolint", "Dockerfile"], cwd=ROOT, capture_output=True, text=True
    )

    assert run.returncode == 0, run.stdout


def test_the_image_without_a_command_is_make_run() -> None:
    recipe = re.search(r"^run:.*\n\t@\$\(BIN\)/(.*)$", (ROOT / "Makefile").read_text(), re.M)

    assert recipe
    assert last_command() == shlex.split(recipe[1])


def test_the_image_runs_as_a_user_given_by_number() -> None:
    users = re.findall(r"^USER (.*)$", DOCKERFILE, re.M)

    assert users[-1] == "10001:10001"


def test_what_the_image_copies_exists_and_is_not_ignored() -> None:
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for source in re.findall(r"^COPY (\S+) \S+$", DOCKERFILE, re.M):
        assert (ROOT / source).exists()
        assert source in kept or any(path.startswith(f"{source}/") for path in kept)
    assert all((ROOT / path).exists() for path in kept)


def test_an_installed_llm_proxy_finds_its_front_from_any_directory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)

    assert (tmp_path / stack.web()[2]).read_text() == (ROOT / "web/gunicorn.conf.py").read_text()


def test_commands_are_the_same_in_procfile_compose_file_and_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack, "run_workers", lambda: 42)

    assert set(APP["formation"]) == set(PROCFILE) == {"web", "worker", "beat"}
    assert {name: SERVICES[name]["command"] for name in PROCFILE} == PROCFILE
    assert PROCFILE["web"] == stack.web()
    assert PROCFILE["beat"] == stack.beat()
    assert PROCFILE["worker"][:3] == ["python", "-m", "tasks"]
    assert __main__.main(PROCFILE["worker"][3:]) == 42


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_refers_only_to_what_exists(name: str) -> None:
    service = SERVICES[name]
    build = service.get("build", ".")
    context, target = (build["context"], build["target"]) if isinstance(build, dict) else (build, None)

    assert (ROOT / context / "Dockerfile").is_file()
    assert target is None or target in STAGES
    for source in sources(service):
        assert (ROOT / source).exists() if source.startswith(".") else source in COMPOSE["volumes"]
    for other in service.get("depends_on", {}):
        assert set(SERVICES[other].get("profiles", [])) <= set(service.get("profiles", []))
    for part in service["command"] if "command" in service else []:
        if part.endswith(".py") and "/" in part:
            assert (ROOT / part).is_file()


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_has_no_more_rights_than_it_needs(name: str) -> None:
    service = SERVICES[name]

    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]


def test_images_of_others_are_pinned_to_a_minor_version() -> None:
    images = [service["image"] for service in SERVICES.values() if "build" not in service]
    images += [image for image in re.findall(r"^FROM (\S+)", DOCKERFILE, re.M) if image not in STAGES]

    assert images
    for image in images:
        assert re.fullmatch(r"[a-z]+:\d+\.\d+-[a-z-]+|[a-z]+/[a-z]+:v?\d+\.\d+(\.\d+)?", image)


def test_only_the_balancer_is_reached_from_outside_and_what_is_to_look_at_from_this_machine() -> None:
    ports = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}

    assert ports.pop("balancer") == ["${PORT:-3030}:3030"]
    assert set(ports) == {"flower", "prometheus", "grafana"}
    assert all(port.startswith("127.0.0.1:") for published in ports.values() for port in published)
    assert all(SERVICES[name]["profiles"] for name in ports)  # and only for those who ask


def test_flower_does_not_start_without_a_password_and_has_no_vault_key() -> None:
    flower = SERVICES["flower"]
    script = flower["command"][2].replace("$$", "$")

    run = subprocess.run(["/bin/sh", "-c", script], env={}, capture_output=True, text=True)

    assert run.returncode == 2
    assert "FLOWER_BASIC_AUTH: set it to user:password" in run.stderr
    assert "keys" not in sources(flower)


def test_the_vault_key_is_written_once_and_for_its_owner_only(tmp_path: Path) -> None:
    script = SERVICES["keys"]["command"][2].replace("/data", str(tmp_path)).replace("python", sys.executable)
    written = []
    for _ in range(2):
        subprocess.run(["sh", "-c", script], cwd=ROOT, check=True)
        written.append((tmp_path / "vault.key").read_text())

    assert written[0] == written[1]
    assert vault.build(Settings(vault_keys=(written[0].strip(),)))
    assert (tmp_path / "vault.key").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["vault.key"]


def test_redis_keeps_every_write_and_evicts_nothing() -> None:
    command = SERVICES["redis"]["command"]
    options = dict(zip(command[1::2], command[2::2], strict=True))

    assert options["--appendonly"] == "yes"
    assert options["--appendfsync"] == "always"
    assert options["--maxmemory-policy"] == "noeviction"


@pytest.mark.parametrize(
    "name", ["Dockerfile", "docker-compose.yml", "app.json", "Procfile", "examples/deploy/haproxy.cfg"]
)
def test_every_variable_of_ours_is_a_setting(name: str) -> None:
    used = set(re.findall(r"\bLLM_PROXY_[A-Z_]*[A-Z]\b", (ROOT / name).read_text()))

    # It refuses what it does not know.
    Settings.from_env({variable: "/dev/null" if variable.endswith("_FILE") else "" for variable in used})


def test_the_settings_of_app_json_are_accepted_and_bind_to_all_addresses() -> None:
    values = {name: variable["value"] for name, variable in APP["env"].items() if "value" in variable}

    settings = Settings.from_env({**values, "REDIS_URL": "rediss://:secret@redis.example:6379", "PORT": "5000"})

    assert settings.bind == "0.0.0.0"  # noqa: S104 - the router of the platform is elsewhere
    assert settings.redis_tls


def test_the_vault_takes_a_secret_that_the_platform_generates() -> None:
    generated = secrets.token_hex(32)
    assert APP["env"]["LLM_PROXY_VAULT_KEYS"]["generator"] == "secret"

    sealed = vault.build(Settings(vault_keys=(generated,))).encrypt(b"key")

    assert vault.build(Settings(vault_keys=("f" * 64, generated))).decrypt(sealed) == b"key"


@pytest.mark.parametrize("side", ["client", "server"])
def test_the_balancer_holds_longer_than_the_proxy(side: str) -> None:
    hours = re.search(rf"^ +timeout {side} (\d+)h$", BALANCER, re.M)

    assert hours
    assert int(hours[1]) * 3600 > Settings().request_deadline_seconds + DEADLINE_MARGIN_SECONDS


def test_the_balancer_sends_no_request_twice() -> None:
    assert re.findall(r"^ +retry-on (.*)$", BALANCER, re.M) == ["conn-failure"]
