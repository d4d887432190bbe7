"""The files of `examples/one-machine`, for systemd and Docker Compose."""

import configparser
import shutil
import subprocess

import pytest
import yaml

from tests.support import ROOT
from tests.support.doc_pages import pages

FOLDER = ROOT / "examples" / "one-machine"
COMPOSE = yaml.safe_load((FOLDER / "compose.yaml").read_text())


def unit(name: str) -> configparser.ConfigParser:
    found = configparser.ConfigParser(interpolation=None, strict=True)
    found.optionxform = str  # type: ignore[assignment,method-assign]
    found.read(FOLDER / name)
    return found


def test_systemd_accepts_the_service_and_its_timer() -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("no systemd-analyze on this machine")
    units = [FOLDER / "kronosbot.service", FOLDER / "kronosbot.timer"]
    output = subprocess.run([analyze, "verify", *units], capture_output=True, text=True).stderr
    ours = [line for line in output.splitlines() if "kronosbot" in line]
    assert [line for line in ours if "is not executable" not in line] == []


def test_the_service_runs_the_job_that_the_help_describes() -> None:
    service = unit("kronosbot.service")["Service"]
    assert service["ExecStart"].endswith("/kronosbot run --local")
    assert service["WorkingDirectory"] == service["ReadWritePaths"], "kronos.db is written there"
    assert unit("kronosbot.timer")["Timer"]["OnCalendar"] == "Mon..Fri 22:05 UTC"


def test_the_containers_are_read_only_and_the_file_has_no_password() -> None:
    services = COMPOSE["services"]
    for name in ("space", "kronosbot"):
        assert services[name]["read_only"] is True
        assert services[name]["cap_drop"] == ["ALL"]
    assert services["space"]["ports"] == ["127.0.0.1:7860:7860"], "for this machine alone"
    for service in services.values():
        password = service.get("environment", {}).get("POSTGRES_PASSWORD")
        assert password is None or password.startswith("${POSTGRES_PASSWORD:?")


def test_paths_in_the_files_and_on_the_page_exist() -> None:
    for service in COMPOSE["services"].values():
        match service.get("build"):
            case str(context):
                assert (FOLDER / context / "Dockerfile").is_file()
            case {"context": context, "dockerfile": dockerfile}:
                assert (FOLDER / context / dockerfile).is_file()
    page = pages()["docs/operations/one-machine.md"]
    for name in ("kronosbot.service", "kronosbot.timer", "compose.yaml"):
        assert f"examples/one-machine/{name}" in page
