"""The examples for systemd and Kubernetes: read by a parser, strict about what they say, the same commands as ever."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tasks import stack
from tasks.settings import Settings

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples/deploy"
UNITS = sorted((EXAMPLES / "systemd").iterdir())
HOME = "/opt/llm-proxy"
PROCFILE = {
    name: shlex.split(command)
    for name, command in (line.split(": ", 1) for line in (ROOT / "Procfile").read_text().splitlines())
}
RESOURCES: list[dict[str, Any]] = list(yaml.safe_load_all((EXAMPLES / "kubernetes.yaml").read_text()))
WORKLOADS = {r["metadata"]["name"]: r for r in RESOURCES if r["kind"] in {"Deployment", "StatefulSet"}}
PODS: dict[str, dict[str, Any]] = {name: r["spec"]["template"]["spec"] for name, r in WORKLOADS.items()}
OURS = [f"llm-proxy-{name}" for name in PROCFILE]


def directives(unit: Path) -> dict[str, dict[str, str]]:
    """Section -> directive -> value, of a unit that says everything once."""
    found: dict[str, dict[str, str]] = {}
    section = ""
    for line in unit.read_text().splitlines():
        if heading := re.fullmatch(r"\[(\w+)\]", line):
            section = heading[1]
            assert section not in found
            found[section] = {}
        elif line and not line.startswith("#"):
            name, is_there, value = line.partition("=")
            assert is_there
            assert name not in found[section]
            found[section][name] = value
    return found


def test_systemd_itself_finds_nothing_in_the_units(tmp_path: Path) -> None:
    """Where there is one; the tests below hold everywhere."""
    analyze = shutil.which("systemd-analyze")
    for unit in UNITS:
        text = re.sub(rf"{HOME}/\.venv/bin/\w+", "/bin/true", unit.read_text()).replace(f"{HOME}/docs", f"{ROOT}/docs")
        (tmp_path / unit.name).write_text(text)
    if analyze:
        paths = [tmp_path / unit.name for unit in UNITS]
        run = subprocess.run([analyze, "verify", *paths], capture_output=True, text=True)
        assert (run.returncode, re.findall(r"^.*llm-proxy.*$", run.stderr, re.M)) == (0, [])


@pytest.mark.parametrize("name", PROCFILE)
def test_a_unit_runs_the_command_of_its_process_type(name: str) -> None:
    service = directives(EXAMPLES / f"systemd/llm-proxy-{name}.service")["Service"]
    program, *arguments = shlex.split(service["ExecStart"])

    assert [program.removeprefix(f"{HOME}/.venv/bin/"), *arguments] == PROCFILE[name]
    assert service["WorkingDirectory"] == HOME
    assert service["KillMode"] == "mixed"
    assert int(service["TimeoutStopSec"]) == 30
    assert (ROOT / "docs/deploy.md").read_text().count(service["EnvironmentFile"])
    for restriction in ("DynamicUser", "NoNewPrivileges", "PrivateTmp", "ProtectHome"):
        assert service[restriction] == "yes"


def test_every_unit_is_a_process_type_or_the_socket_of_the_front() -> None:
    assert {unit.name for unit in UNITS} == {*(f"{name}.service" for name in OURS), "llm-proxy-web.socket"}
    socket = directives(EXAMPLES / "systemd/llm-proxy-web.socket")["Socket"]
    assert socket["ListenStream"] == f"{Settings().bind}:{Settings().port}"


@pytest.mark.parametrize("name", PROCFILE)
def test_a_deployment_runs_the_command_of_its_process_type(name: str) -> None:
    (container,) = PODS[f"llm-proxy-{name}"]["containers"]

    assert container["command"] == PROCFILE[name]
    assert container["image"] == "llm-proxy"


def test_kubernetes_redis_is_as_durable_as_the_one_of_the_compose_file() -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["redis"]
    (container,) = PODS["llm-proxy-redis"]["containers"]
    ours = [word for word in compose["command"] if not word.startswith("${")]

    assert container["image"] == compose["image"]
    assert [word for word in container["command"] if word not in {"2gb", "--dir", "/data"}] == ours
    assert WORKLOADS["llm-proxy-redis"]["spec"]["replicas"] == 1


def test_the_settings_of_the_pods_are_settings_and_kubernetes_adds_none_of_its_own() -> None:
    (config,) = (r["data"] for r in RESOURCES if r["kind"] == "ConfigMap")
    own = {entry["name"]: "/dev/null" for pod in PODS.values() for c in pod["containers"] for entry in c.get("env", [])}

    assert Settings.from_env({**config, **own}).redis_url == config["REDIS_URL"]
    # A Service named llm-proxy would be told to each pod as LLM_PROXY_PORT and the like, and these are refused.
    assert all(pod["enableServiceLinks"] is False for pod in PODS.values())


@pytest.mark.parametrize("name", WORKLOADS)
def test_a_pod_has_no_more_rights_than_it_needs(name: str) -> None:
    pod = PODS[name]

    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["runAsUser"] == (999 if name == "llm-proxy-redis" else 10001)
    assert not pod["automountServiceAccountToken"]
    for container in pod["containers"]:
        assert container["securityContext"]["readOnlyRootFilesystem"]
        assert not container["securityContext"]["allowPrivilegeEscalation"]
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["limits"]["memory"]
        assert {m["name"] for m in container["volumeMounts"]} <= {v["name"] for v in pod.get("volumes", [])} | {"data"}


@pytest.mark.parametrize("resource", RESOURCES, ids=lambda r: f"{r['kind']} {r['metadata']['name']}")
def test_what_selects_selects_what_is_there(resource: dict[str, Any]) -> None:
    spec = resource.get("spec", {})
    selector = spec.get("selector", {})
    labels = selector.get("matchLabels", selector)
    if resource["kind"] in {"Deployment", "StatefulSet"}:
        assert spec["template"]["metadata"]["labels"] == labels
    if labels:
        assert any(r["spec"]["template"]["metadata"]["labels"] == labels for r in WORKLOADS.values())
    if resource["kind"] == "Service":
        pod = PODS[next(iter(labels.values()))]
        ports = [port["name"] for container in pod["containers"] for port in container["ports"]]
        assert [port["targetPort"] for port in spec["ports"]] == ports


def test_the_front_is_probed_where_it_answers() -> None:
    (container,) = PODS["llm-proxy-web"]["containers"]

    assert container["ports"][0]["containerPort"] == Settings().port
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert PROCFILE["web"] == stack.web()
