"""`kronos_space/` by itself is a Space repository: what its image needs is pinned and complete."""

import ast
import re
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from importlib.metadata import distribution, packages_distributions
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from kronos_space.deployment.deploy import FOLDER, NOT_SERVED, uploaded_files
from kronos_space.server import pages
from kronos_space.weights.catalogue import CATALOGUE

PINNED = {
    canonicalize_name(line.partition("==")[0]): line.strip()
    for line in (FOLDER / "requirements.txt").read_text().splitlines()
    if line and not line.startswith("#")
}
HUB_COLORS = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}
# Of PyTorch builds for a GPU; the CPU build that the image takes asks for none of them.
GPU_ONLY = ("nvidia-", "cuda-", "triton")


def test_the_requirements_are_the_versions_that_were_tested_together() -> None:
    tested = (FOLDER.parent / "constraints.txt").read_text().splitlines()
    assert set(PINNED.values()) <= set(tested)


def test_everything_that_the_service_imports_is_pinned() -> None:
    owners = packages_distributions()
    imported = {
        canonicalize_name(owners[name][0])
        for file in uploaded_files(FOLDER)
        if file.endswith(".py")
        for name in _imports(FOLDER / file)
        if name not in sys.stdlib_module_names and name != "kronos_space"
    }
    assert imported - PINNED.keys() == set()


def test_what_a_running_space_never_needs_is_neither_uploaded_nor_in_the_image() -> None:
    left_out = {"deployment", "verification"}
    uploaded = {file.partition("/")[0] for file in uploaded_files(FOLDER)}
    code = {path.parent.name for path in FOLDER.glob("*/__init__.py")}
    assert code - uploaded == left_out == NOT_SERVED
    assert left_out <= set((FOLDER / ".dockerignore").read_text().splitlines())


def test_everything_that_the_requirements_need_is_pinned_too() -> None:
    missing = {
        f"{need} (of {name})"
        for name in PINNED
        for need in _needs(name)
        if need not in PINNED and not need.startswith(GPU_ONLY)
    }
    assert missing == set()


def test_the_front_matter_is_what_the_hub_takes_and_names_the_port_of_the_service() -> None:
    front_matter = yaml.safe_load((FOLDER / "README.md").read_text().split("---")[1])
    dockerfile = (FOLDER / "Dockerfile").read_text()
    assert (front_matter["sdk"], front_matter["app_port"]) == ("docker", 7860)
    assert re.search(r"^EXPOSE 7860$", dockerfile, re.MULTILINE)
    assert dockerfile.rstrip().endswith('CMD ["python", "-m", "kronos_space"]')
    assert {front_matter["colorFrom"], front_matter["colorTo"]} <= HUB_COLORS
    assert front_matter["title"]
    assert front_matter["emoji"]
    assert len(front_matter["short_description"]) <= 60
    assert front_matter["license"] == "mit"
    assert {entry.model_id for entry in CATALOGUE.values()} >= {front_matter["models"][0]}


def test_the_files_of_the_pages_are_where_they_are_looked_for() -> None:
    for name in (*pages._FILES, *pages._PACKAGED):
        assert pages._asset(name).content


@pytest.mark.integration
def test_hadolint_has_nothing_to_say_about_the_dockerfile() -> None:
    hadolint = Path(sysconfig.get_path("scripts"), "hadolint")
    done = subprocess.run([hadolint, FOLDER / "Dockerfile"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def _imports(path: Path) -> Iterator[str]:
    """Top-level packages that importing this module imports; not what its functions import."""
    for node in ast.parse(path.read_text()).body:
        match node:
            case ast.Import(names=names):
                yield from (alias.name.partition(".")[0] for alias in names)
            case ast.ImportFrom(module=str(module), level=0):
                yield module.partition(".")[0]


def _needs(name: str) -> Iterator[str]:
    for text in distribution(name).requires or []:
        need = Requirement(text)
        if need.marker is None or need.marker.evaluate({"extra": ""}):
            yield canonicalize_name(need.name)
