"""deploy/: every file is parsed, and what it names exists here - settings, commands, addresses, paths."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.core.management import get_commands
from django.test import Client
from django.utils.module_loading import import_string

from sessions_app.management.commands.run_session_host import Command as HostCommand
from tests.installation import ROOT

DEPLOY = ROOT / "deploy"
KUBERNETES = sorted((DEPLOY / "kubernetes").glob("*.yaml"))

#: Names read from the environment by settings.py and by what it starts, and those that Docker files set for Python.
KNOWN = set(re.findall(r'"([A-Z][A-Z_]+)"', (ROOT / "waserver" / "settings.py").read_text())) | {
    "ADMIN_PASSWORD", "PATH", "PYTHONUNBUFFERED", "POD_NAME",
}  # fmt: skip


def documents() -> Iterator[dict[str, Any]]:
    """Give every Kubernetes object of deploy/."""
    for file in KUBERNETES:
        yield from yaml.safe_load_all(file.read_text())


def pod(document: dict[str, Any]) -> dict[str, Any] | None:
    """Return the pod template's spec, or None."""
    return document.get("spec", {}).get("template", {}).get("spec") if document["kind"] != "Kustomization" else None


def containers() -> Iterator[tuple[str, dict[str, Any]]]:
    """Give the containers of every workload."""
    for document in documents():
        for container in (pod(document) or {}).get("containers", []):
            yield document["metadata"]["name"], container


def works(command: list[str]) -> None:
    """Assert that a process's command is one of ours, with arguments it takes."""
    assert command[0] == "python"
    if command[1] == "-m":
        assert command[2] == "daphne"
        module, _dot, name = command[-1].partition(":")
        assert import_string(f"{module}.{name}")
        return
    assert command[1] == "manage.py"
    assert command[2] in get_commands()
    if command[2] == "run_session_host":
        assert vars(HostCommand().create_parser("manage.py", command[2]).parse_args(command[3:]))["name"]
    if command[2] == "server":
        from waserver.management.commands.server import Command

        Command().create_parser("manage.py", "server").parse_args(command[3:])


@pytest.fixture
def unit() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(DEPLOY / "waserver.service")
    return parser


def test_the_unit_starts_a_command_of_ours_and_gives_it_time_to_end(unit: configparser.ConfigParser) -> None:
    service = unit["Service"]
    program, *arguments = service["ExecStart"].split()
    assert program == f"{service['WorkingDirectory']}/.venv/bin/python"
    works(["python", *arguments])
    from waserver.tree import STOP_PATIENCE

    assert int(service["TimeoutStopSec"]) > STOP_PATIENCE
    name, _equals, folder = service["Environment"].partition("=")
    assert name in KNOWN
    assert folder == service["ReadWritePaths"] == f"/var/lib/{service['StateDirectory']}"
    assert "MemoryDenyWriteExecute" not in service  # the library's callbacks are made at run time


def test_systemd_itself_finds_nothing_wrong_with_the_unit(unit: configparser.ConfigParser, tmp_path: Path) -> None:
    """With the paths of this machine, since systemd wants them to exist; where there is systemd."""
    if shutil.which("systemd-analyze") is None:
        assert unit.sections() == ["Unit", "Service", "Install"]
        return
    text = (DEPLOY / "waserver.service").read_text().replace("/opt/waserver/.venv/bin/python", sys.executable)
    file = tmp_path / "waserver.service"
    file.write_text(text.replace("/opt/waserver", str(ROOT)))
    assert [line for line in _verified(file).splitlines() if "waserver.service" in line] == []
    wrong = tmp_path / "wrong.service"
    wrong.write_text(file.read_text().replace("Restart=always", "Restart=sometimes"))
    assert "sometimes" in _verified(wrong)  # the check can fail


def _verified(file: Path) -> str:
    command = ["systemd-analyze", "verify", str(file)]
    return subprocess.run(command, capture_output=True, text=True, timeout=180, check=False).stderr


def test_the_image_copies_what_there_is_and_starts_a_command_of_ours() -> None:
    text = (DEPLOY / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line.split(maxsplit=1) for line in text.splitlines() if line and not line.startswith("#")]
    instructions = {first for first, _rest in lines}
    assert instructions <= {"FROM", "RUN", "WORKDIR", "COPY", "ENV", "USER", "VOLUME", "EXPOSE", "STOPSIGNAL", "CMD"}
    assert lines[0][0] == "FROM"
    for first, rest in lines:
        if first == "COPY" and not rest.startswith("--from"):
            for source in rest.split()[:-1]:
                assert source == "." or list(ROOT.glob(source)), source
        if first == "ENV":
            assert {pair.partition("=")[0] for pair in rest.split()} <= KNOWN
        if first == "CMD":
            works(yaml.safe_load(rest))
    assert ["USER", "waserver"] in lines  # not root
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    assert {"manage.py", "accounts", "sessions_app", "messaging", "monitoring", "waserver", "templates"} <= set(allowed)
    assert all(list(ROOT.glob(name)) for name in allowed if name != "locale")


def test_compose_has_every_part_and_knows_our_settings() -> None:
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    services = compose["services"]
    assert set(services) == {"mariadb", "redis", "postgres", "setup", "web", "cluster", "dispatcher", "host-1",
                             "host-2"}  # fmt: skip
    example = {line.partition("=")[0] for line in (DEPLOY / "compose.env.example").read_text().splitlines()
               if line and not line.startswith("#")}  # fmt: skip
    text = re.sub(r"#.*", "", (DEPLOY / "compose.yaml").read_text())
    required = set(re.findall(r"\$\{(\w+):\?", text))
    assert required <= example
    for name, service in services.items():
        if name in ("mariadb", "redis", "postgres"):
            assert ":" in service["image"]  # pinned
            assert service["healthcheck"]["test"]
            continue
        assert set(service["environment"]) <= KNOWN
        works([str(part) for part in service["command"]])
        assert all(volume.partition(":")[0] in compose["volumes"] for volume in service["volumes"])
        assert all(other in services for other in service["depends_on"])
    assert services["host-1"]["hostname"] == services["host-1"]["command"][-1]  # the same over restarts
    assert services["host-2"]["hostname"] == services["host-2"]["command"][-1]
    assert services["web"]["ports"] == ["127.0.0.1:8000:8000"]  # TLS is a proxy's


def test_every_program_of_one_machine_has_its_place_elsewhere(settings: Any) -> None:
    from waserver.supervision import programs

    settings.HOSTS = 2
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    assert {program.name for program in programs()} <= set(compose)


def test_kubernetes_has_every_part_and_labels_that_meet() -> None:
    kinds = [(one["kind"], one["metadata"]["name"]) for one in documents() if one["kind"] != "Kustomization"]
    assert set(kinds) >= {("Deployment", "waserver-web"), ("Deployment", "waserver-cluster"),
                          ("Deployment", "waserver-dispatcher"), ("Job", "waserver-setup"),
                          ("StatefulSet", "waserver-host"), ("Service", "waserver-web"), ("ConfigMap", "waserver"),
                          ("Secret", "waserver")}  # fmt: skip
    assert len(kinds) == len(set(kinds))
    for one in documents():
        if one["kind"] in ("Deployment", "StatefulSet"):
            labels = one["spec"]["template"]["metadata"]["labels"]
            assert one["spec"]["selector"]["matchLabels"].items() <= labels.items()
    pods = [one["spec"]["template"]["metadata"]["labels"] for one in documents() if pod(one)]
    for one in documents():
        if one["kind"] == "Service":
            assert any(one["spec"]["selector"].items() <= labels.items() for labels in pods)


def test_kubernetes_knows_our_settings_and_commands() -> None:
    for one in documents():
        assert set(one.get("data", {})) | set(one.get("stringData", {})) <= KNOWN
    for name, container in containers():
        works([part.replace("$(POD_NAME)", f"{name}-0") for part in container["command"]])
        assert {entry["name"] for entry in container.get("env", [])} <= KNOWN
        assert container["resources"]["limits"]["memory"] if name != "waserver-setup" else True
        assert not container["image"].endswith(("latest", "waserver"))
    host = next(one for one in documents() if one["kind"] == "StatefulSet")
    assert host["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] > 10


@pytest.mark.django_db
def test_probes_lead_to_addresses_that_answer(client: Client) -> None:
    probes = [container[kind]["httpGet"] for _name, container in containers()
              for kind in ("livenessProbe", "readinessProbe") if kind in container]  # fmt: skip
    assert len(probes) == 2
    for probe in probes:
        answer = client.get(probe["path"])
        assert answer.status_code in (200, 503)
        assert answer["Content-Type"] == "application/json"
    assert client.get("/healthz").status_code == 200


def test_kustomize_builds_it_where_there_is_kubectl() -> None:
    listed = yaml.safe_load((DEPLOY / "kubernetes" / "kustomization.yaml").read_text())["resources"]
    assert sorted([*listed, "kustomization.yaml"]) == [file.name for file in KUBERNETES]
    if shutil.which("kubectl"):
        done = subprocess.run(["kubectl", "kustomize", str(DEPLOY / "kubernetes")], capture_output=True, text=True,
                              timeout=180, check=False)  # fmt: skip
        assert done.returncode == 0, done.stderr
        built = [one["kind"] for one in yaml.safe_load_all(done.stdout)]
        assert built.count("Deployment") == 3
