"""The text of the Dockerfiles; `make image-test` builds and runs them."""

import re
import subprocess
import sysconfig
import tomllib
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support import ROOT
from tests.support.locks import locked, pinned

DOCKERFILE = ROOT / "tradingbot" / "Dockerfile"
SPACE = ROOT / "kronos_space" / "Dockerfile"


def test_hadolint_accepts_the_dockerfile() -> None:
    hadolint = Path(sysconfig.get_path("scripts"), "hadolint")
    done = subprocess.run([hadolint, DOCKERFILE], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_build_context_contains_only_what_is_copied() -> None:
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE.read_text(), re.MULTILINE)
    let_in = re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    assert sorted(" ".join(copied).split()) == sorted(let_in)
    assert all((ROOT / name).exists() for name in let_in)


def test_the_image_runs_as_a_non_root_user_and_starts_the_job() -> None:
    lines = DOCKERFILE.read_text().splitlines()
    assert [line for line in lines if line.startswith("USER")] == ["USER 1000"]
    assert lines[-1] == 'CMD ["python", "-m", "tradingbot.kronosbot"]'


@pytest.mark.parametrize("dockerfile", [DOCKERFILE, SPACE], ids=["bots", "space"])
def test_the_base_image_is_pinned_by_digest(dockerfile: Path) -> None:
    text = dockerfile.read_text()
    bases = re.findall(r"^FROM (\S+)", text, re.MULTILINE)
    assert set(bases) == {"${PYTHON_IMAGE}"}
    [image] = re.findall(r"^ARG PYTHON_IMAGE=(.+)$", text, re.MULTILINE)
    assert re.fullmatch(r"python:3\.11-slim@sha256:[0-9a-f]{64}", image)


def test_both_images_use_the_same_base() -> None:
    arguments = [
        re.findall(r"^ARG PYTHON_IMAGE=.+$", file.read_text(), re.MULTILINE)
        for file in (DOCKERFILE, SPACE)
    ]
    assert arguments[0] == arguments[1]


@pytest.mark.parametrize("dockerfile", [DOCKERFILE, SPACE], ids=["bots", "space"])
def test_every_installed_package_is_pinned_by_hash(dockerfile: Path) -> None:
    text = dockerfile.read_text().replace("\\\n", " ")
    installs = re.findall(r"pip install[^;&\n]*", text)
    assert len(installs) > 1
    unheld = [install for install in installs if "--require-hashes" not in install]
    # a PyTorch from pip's default index is only for those who choose it
    options = "--no-cache-dir --no-compile --target /opt/packages"
    by_itself = [f"pip install {options} torch -c requirements.txt"]
    assert [" ".join(install.split()) for install in unheld] == (
        by_itself if dockerfile == SPACE else []
    )
    for file in re.findall(r"-r (\S+)", " ".join(installs)):
        assert locked(dockerfile.parent / Path(file).name)


def test_the_bots_image_installs_the_tested_versions_of_all_requirements() -> None:
    tested = pinned(ROOT / "constraints.txt")
    found = locked(ROOT / "tradingbot" / "requirements.lock")
    assert found.items() <= tested.items()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = set(closure(project["dependencies"]))
    assert needed - found.keys() == set()
    assert found.keys() - needed == set(), "it is needed no more: make lock"
    assert locked(ROOT / "tradingbot" / "plotly.lock") == {"plotly": tested["plotly"]}


def closure(requirements: list[str]) -> Iterator[str]:
    """Return the dependencies of these packages on Linux with Python 3.11, transitively."""
    environment = {"python_version": "3.11", "python_full_version": "3.11.16",
                   "sys_platform": "linux", "platform_system": "Linux", "os_name": "posix",
                   "platform_machine": "x86_64", "implementation_name": "cpython",
                   "platform_python_implementation": "CPython"}  # fmt: skip
    seen: set[tuple[str, str]] = set()
    waiting = [(text, "") for text in requirements]
    while waiting:
        text, extra = waiting.pop()
        need = Requirement(text)
        if need.marker and not need.marker.evaluate({**environment, "extra": extra}):
            continue
        name = canonicalize_name(need.name)
        yield name
        for wanted in ("", *need.extras):
            if (name, wanted) not in seen:
                seen.add((name, wanted))
                waiting += [(item, wanted) for item in distribution(name).requires or []]
