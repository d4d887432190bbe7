"""`kronos_space/` alone is a Space repository: its packages are pinned and complete."""

import ast
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from fnmatch import fnmatch
from importlib.metadata import distribution
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from kronos_space import process
from kronos_space.__main__ import main
from kronos_space.deployment.deploy import FOLDER, NOT_SERVED, uploaded_files
from kronos_space.deployment.errors import HubRefused
from kronos_space.server import pages
from kronos_space.weights.catalogue import CATALOGUE
from tests.support.locks import locked, pinned

PINNED = {
    canonicalize_name(line.partition("==")[0]): line.strip()
    for line in (FOLDER / "requirements.txt").read_text().splitlines()
    if line and not line.startswith("#")
}
HUB_COLORS = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}
# Dependencies of PyTorch's GPU builds; the image installs the CPU build, which has none of them.
GPU_ONLY = ("nvidia-", "cuda-", "triton")


def test_the_requirements_are_the_tested_versions() -> None:
    tested = (FOLDER.parent / "constraints.txt").read_text().splitlines()
    assert set(PINNED.values()) <= set(tested)


def test_the_hashed_requirements_are_the_same_versions() -> None:
    """`make lock` writes both files."""
    torch = locked(FOLDER / "torch-cpu.lock")
    rest = locked(FOLDER / "requirements.lock")
    assert torch.keys() == {"torch"}
    assert torch | rest == pinned(FOLDER / "requirements.txt")


def test_everything_that_the_service_imports_is_pinned() -> None:
    pinned = {name for package in PINNED for name in _modules(package)}
    imported = {
        name
        for file in uploaded_files(FOLDER)
        if file.endswith(".py")
        for name in _imports(FOLDER / file)
        if name not in sys.stdlib_module_names and name != "kronos_space"
    }
    assert imported - pinned == set()


def test_files_unused_at_run_time_are_neither_uploaded_nor_in_the_image() -> None:
    left_out = {"deployment", "finetune", "verification"}
    uploaded = {file.partition("/")[0] for file in uploaded_files(FOLDER)}
    code = {path.parent.name for path in FOLDER.glob("*/__init__.py")}
    assert code - uploaded == left_out == NOT_SERVED
    assert left_out <= set((FOLDER / ".dockerignore").read_text().splitlines())


# Files that people leave in a folder, and files that only resemble ours.
JUNK = (
    "id_rsa", "secrets.env", "kronos.db", ".env", ".git/config", "notes.py", "engine/local.py",
    "static/dump.csv", "checkpoints/mine/model.safetensors", "README.md~", "core", "Dockerfile.bak",
    "static/samples/positions.csv", "weights/token", "__pycache__/app.cpython-311.pyc", "app.PY",
)  # fmt: skip


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("space") / "kronos_space"
    for name, path in uploaded_files(FOLDER).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(path.read_bytes()[:10])
    return folder


letters = st.characters(categories=["L", "N"], include_characters="_.-")
names = st.lists(st.text(letters, min_size=1, max_size=12), min_size=1, max_size=3)


@settings(deadline=None)
@given(
    junk=st.one_of(names.map("/".join), st.sampled_from(JUNK)),
    kind=st.sampled_from(["file", "link", "link to a folder", "fifo"]),
)
@example(junk="secrets.env", kind="link")
def test_stray_files_in_the_folder_are_not_uploaded(served: Path, junk: str, kind: str) -> None:
    path = served / junk
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        match kind:
            case "file":
                path.open("x").close()
            case "link":
                path.symlink_to("/etc/passwd")
            case "link to a folder":
                path.symlink_to(served / "engine")
            case "fifo":
                os.mkfifo(path)
    except OSError:  # the file exists, or a file has the name of its folder
        return
    try:
        assert uploaded_files(served).keys() == uploaded_files(FOLDER).keys()
    finally:
        path.unlink()


@pytest.mark.parametrize("name", ["app.py", "static", "engine/engine.py", "README.md"])
def test_a_file_that_is_a_link_or_missing_is_refused(
    served: Path, tmp_path: Path, name: str
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(served, folder, symlinks=True)
    (folder / name).rename(tmp_path / "elsewhere")
    with pytest.raises(HubRefused, match="is missing, or a link"):
        uploaded_files(folder)
    (folder / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(HubRefused, match="is missing, or a link"):
        uploaded_files(folder)


def test_the_package_folder_may_be_a_link(served: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(served)
    assert uploaded_files(tmp_path / "link").keys() == uploaded_files(FOLDER).keys()


def test_the_image_is_built_from_the_uploaded_files() -> None:
    """Exceptions are files that only the Hub and the build read."""
    ignored = (FOLDER / ".dockerignore").read_text().splitlines()
    assert "*" in ignored
    let_in = [line[1:] for line in ignored if line.startswith("!")]
    left_out = {
        name
        for name in uploaded_files(FOLDER)
        if not any(fnmatch(name.partition("/")[0], pattern) for pattern in let_in)
    }
    assert left_out == {"README.md", "Dockerfile", ".dockerignore"}


def test_dependencies_of_the_requirements_are_pinned_too() -> None:
    missing = {
        f"{need} (of {name})"
        for name in PINNED
        for need in _needs(name)
        if need not in PINNED and not need.startswith(GPU_ONLY)
    }
    assert missing == set()


def test_the_front_matter_is_valid_and_names_the_services_port() -> None:
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


def test_the_files_of_the_web_pages_are_packaged() -> None:
    for name in (*pages._FILES, *pages._PACKAGED):
        assert pages._asset(name).content


@pytest.mark.integration
def test_hadolint_accepts_the_dockerfile() -> None:
    hadolint = Path(sysconfig.get_path("scripts"), "hadolint")
    done = subprocess.run([hadolint, FOLDER / "Dockerfile"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def _modules(package: str) -> set[str]:
    """Return the module names of an installed package."""
    files = [file for file in distribution(package).files or [] if file.suffix == ".py"]
    return {file.parts[0].removesuffix(".py") for file in files}


def _imports(path: Path) -> Iterator[str]:
    """Return the top-level packages that a module imports, except inside functions."""
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


def test_without_its_packages_the_service_prints_how_to_install_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(process, "prepare", lambda arguments: (None, None))
    monkeypatch.delitem(sys.modules, "kronos_space.serving", raising=False)
    monkeypatch.delattr("kronos_space.serving", raising=False)
    monkeypatch.setitem(sys.modules, "uvicorn", None)  # as if it were not installed
    assert main([]) == 1
    assert capsys.readouterr() == (
        "",
        "kronos_space: the package uvicorn is not installed: pip install -r "
        f"{FOLDER / 'requirements.txt'}\n",
    )
