"""`make release`: one version in all files, a dated changelog, and a matching tag."""

import re
import subprocess
from pathlib import Path

import pytest

from scripts import release
from tests.support import ROOT
from tradingbot import __version__

CHANGELOG = """# Changelog

## [Unreleased]

### Added

- A thing.

## [0.1.0] - 2026-01-02

### Added

- The first thing.
"""


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", "-c", "user.name=A", "-c", "user.email=a@b.c", *arguments],
        cwd=folder, check=True, capture_output=True, text=True,
    ).stdout.strip()  # fmt: skip


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A git repository with the project's files at version 0.1.0."""
    for file, pattern in (release.SOURCE, *release.REPEATED):
        path = tmp_path / file
        path.parent.mkdir(parents=True, exist_ok=True)
        text = path.read_text() if path.exists() else ""
        path.write_text(text + pattern.strip("^$").replace("(.*)", "0.1.0") + "\n")
    (tmp_path / "CHANGELOG.md").write_text(CHANGELOG)
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "config", "user.name", "A")
    git(tmp_path, "config", "user.email", "a@b.c")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "--message", "all")
    return tmp_path


def run(project: Path, command: str, version: str) -> None:
    release.main([command, version, "--folder", str(project)])


def refusal(project: Path, command: str, version: str) -> str:
    with pytest.raises(SystemExit) as ended:
        run(project, command, version)
    return str(ended.value)


def test_every_file_says_the_same_version() -> None:
    for file, pattern in (release.SOURCE, *release.REPEATED):
        found = re.findall(pattern, (ROOT / file).read_text(), re.MULTILINE)
        assert found == [__version__], file


def test_no_other_file_repeats_the_version() -> None:
    """Other texts have a placeholder, or say where to find the version."""
    known = {file for file, _ in (release.SOURCE, *release.REPEATED)} | {"CHANGELOG.md"}
    ours = re.compile(rf"kronos-(?:space|tradingbots):{re.escape(__version__)}")
    for folder in ("docs", "examples", "helm", "kronos_space", "tradingbot", ".github"):
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in {".md", ".py", ".yaml", ".yml", ".txt", ""} and path.is_file():
                name = str(path.relative_to(ROOT))
                assert name in known or not ours.search(path.read_text(errors="ignore")), name
    assert not ours.search((ROOT / "README.md").read_text())


def test_a_release_writes_the_version_everywhere_dates_the_changelog_and_tags(
    project: Path,
) -> None:
    run(project, "prepare", "0.2.0")
    for file, pattern in (release.SOURCE, *release.REPEATED):
        assert re.findall(pattern, (project / file).read_text(), re.MULTILINE) == ["0.2.0"]
    changelog = (project / "CHANGELOG.md").read_text()
    assert re.search(
        r"## \[Unreleased\]\n\n## \[0\.2\.0\] - \d{4}-\d\d-\d\d\n\n### Added\n\n- A thing",
        changelog,
    )
    assert git(project, "describe", "--exact-match") == "v0.2.0"
    assert git(project, "status", "--porcelain") == ""


def test_the_tag_of_a_release_is_valid_and_gives_its_notes(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(project, "prepare", "v0.2.0")
    capsys.readouterr()
    run(project, "check", "v0.2.0")
    run(project, "notes", "v0.2.0")
    assert capsys.readouterr().out == "### Added\n\n- A thing.\n"


@pytest.mark.parametrize(
    ("version", "says"),
    [
        ("0.1.0", "VERSION='0.1.0': expected a version later than 0.1.0"),
        ("0.0.9", "VERSION='0.0.9': expected a version later than 0.1.0"),
        ("0.1.0-rc.1", "expected a version later"),
        ("", "VERSION='': expected three numbers, as 0.2.0"),
        ("1.2", "VERSION='1.2': expected three numbers, as 0.2.0"),
        ("0.2.0; rm -rf x", "expected three numbers"),
    ],
)
def test_a_version_that_is_invalid_or_not_newer_is_refused(
    project: Path, version: str, says: str
) -> None:
    assert says in refusal(project, "prepare", version)
    assert git(project, "tag") == ""


def test_uncommitted_changes_prevent_a_release(project: Path) -> None:
    (project / "CHANGELOG.md").write_text(CHANGELOG + "\nmore\n")
    assert "commit or stash first: M CHANGELOG.md" in refusal(project, "prepare", "0.2.0")


def test_a_release_without_a_change_is_refused(project: Path) -> None:
    (project / "CHANGELOG.md").write_text(CHANGELOG.replace("### Added\n\n- A thing.\n\n", ""))
    git(project, "commit", "--all", "--quiet", "--message", "nothing")
    says = refusal(project, "prepare", "0.2.0")
    assert says == "release: CHANGELOG.md: nothing is listed under [Unreleased]"


@pytest.mark.parametrize("which", range(len(release.REPEATED) + 1))
def test_a_tag_that_one_file_does_not_match_is_refused(project: Path, which: int) -> None:
    run(project, "prepare", "0.2.0")
    file, pattern = (release.SOURCE, *release.REPEATED)[which]
    text = (project / file).read_text()
    line = re.search(pattern, text, re.MULTILINE)
    assert line is not None
    (project / file).write_text(text.replace(line[0], line[0].replace("0.2.0", "0.1.9")))
    assert f"{file} has the version 0.1.9, the tag is 0.2.0" in refusal(project, "check", "v0.2.0")


def test_a_tag_without_a_dated_section_is_refused(project: Path) -> None:
    run(project, "prepare", "0.2.0")
    (project / "CHANGELOG.md").write_text(CHANGELOG)
    assert "CHANGELOG.md has no dated section of 0.2.0" in refusal(project, "check", "v0.2.0")
