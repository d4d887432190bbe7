"""Prepare a release: set the version in all files, date the changelog, commit and tag.

    make release VERSION=0.2.0                    check, write, commit and tag; pushes nothing
    python scripts/release.py check v0.2.0        check that the tag matches the checked-out files
    python scripts/release.py notes 0.2.0         print the changelog section, for the release page

`tradingbot.__version__` is the version. Three more lines repeat it (`REPEATED`), because a Space
runs without that package and Helm reads its own file. A test keeps them equal. This script uses the
standard library only, because the release workflow runs it before anything is installed.
"""

import argparse
import datetime as dt
import re
import subprocess
import sys
from pathlib import Path

VERSION = r"\d+\.\d+\.\d+(?:-[0-9A-Za-z]+(?:\.[0-9A-Za-z]+)*)?"
SOURCE = ("tradingbot/__init__.py", r'^__version__ = "(.*)"$')
REPEATED = (
    ("kronos_space/__init__.py", r'^__version__ = "(.*)"$'),
    ("helm/tradingbots/Chart.yaml", r"^version: (.*)$"),
    ("helm/tradingbots/Chart.yaml", r'^appVersion: "(.*)"$'),
)
CHANGELOG = "CHANGELOG.md"
UNRELEASED = "## [Unreleased]"


class NotReady(Exception):
    """A reason, in one line, why the release cannot be made."""


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="release.py", description="Prepare or check a release.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, about in (
        ("prepare", "write the version, date the changelog, commit and tag"),
        ("check", "check a tag against the version and the changelog of the checked-out files"),
        ("notes", "print the changelog's section of a version"),
    ):
        command = commands.add_parser(name, help=about, description=about)
        command.add_argument("version", help="as 0.2.0 or v0.2.0")
        command.add_argument("--folder", type=Path, default=Path(), help="folder of the project")
    options = parser.parse_args(arguments)
    version = options.version.removeprefix("v")
    try:
        if not re.fullmatch(VERSION, version):
            raise NotReady(f"VERSION={options.version!r}: expected three numbers, as 0.2.0")
        {"prepare": prepare, "check": check, "notes": print_notes}[options.command](
            options.folder, version
        )
    except NotReady as error:
        sys.exit(f"release: {error}")


def prepare(folder: Path, version: str) -> None:
    """Write `version` everywhere, date the changelog, commit and tag."""
    current = current_version(folder)
    if _order(version) <= _order(current):
        raise NotReady(f"VERSION={version!r}: expected a version later than {current}")
    if changed := _git(folder, "status", "--porcelain"):
        raise NotReady(f"commit or stash first: {changed.splitlines()[0].strip()}")
    if _git(folder, "tag", "--list", f"v{version}"):
        raise NotReady(f"the tag v{version} is taken")
    for file, pattern in (SOURCE, *REPEATED):
        _write(folder / file, pattern, version)
    date_changelog(folder / CHANGELOG, version, dt.datetime.now(dt.UTC).date())
    _git(folder, "commit", "--quiet", "--all", "--message", f"Release {version}")
    _git(folder, "tag", "--annotate", f"v{version}", "--message", f"Release {version}")
    print(f"committed and tagged v{version}; publish it with: git push --follow-tags")


def check(folder: Path, version: str) -> None:
    """Raise NotReady unless all files have `version` and the changelog has its dated section."""
    for file, pattern in (SOURCE, *REPEATED):
        if (found := _read(folder / file, pattern)) != version:
            raise NotReady(
                f"{file} has the version {found}, the tag is {version}: "
                f"make release VERSION={version}"
            )
    notes(folder, version)


def current_version(folder: Path) -> str:
    return _read(folder / SOURCE[0], SOURCE[1])


def date_changelog(changelog: Path, version: str, day: dt.date) -> None:
    """Turn the unreleased section into that of `version`, below a new empty one."""
    text = changelog.read_text(encoding="utf-8")
    if not _section(text, UNRELEASED):
        raise NotReady(f"{changelog.name}: nothing is listed under {UNRELEASED[3:]}")
    dated = f"{UNRELEASED}\n\n## [{version}] - {day}"
    changelog.write_text(text.replace(UNRELEASED, dated, 1), encoding="utf-8")


def notes(folder: Path, version: str) -> str:
    text = (folder / CHANGELOG).read_text(encoding="utf-8")
    dated = re.search(rf"^## \[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d$", text, re.MULTILINE)
    if not dated:
        raise NotReady(f"{CHANGELOG} has no dated section of {version}")
    return _section(text, dated[0])


def print_notes(folder: Path, version: str) -> None:
    print(notes(folder, version))


def _section(text: str, heading: str) -> str:
    """Return the text under `heading`, up to the next version's heading."""
    _, found, after = text.partition(f"{heading}\n")
    return re.split(r"^## ", after, maxsplit=1, flags=re.MULTILINE)[0].strip() if found else ""


def _order(version: str) -> tuple[list[int], bool, str]:
    """Return a sort key for versions in which a pre-release comes before its release."""
    numbers, _, before = version.partition("-")
    return [int(number) for number in numbers.split(".")], not before, before


def _read(file: Path, pattern: str) -> str:
    found = re.search(pattern, file.read_text(encoding="utf-8"), re.MULTILINE)
    if not found:
        raise NotReady(f"{file}: no line like {pattern}")
    return found[1]


def _write(file: Path, pattern: str, version: str) -> None:
    text = file.read_text(encoding="utf-8")
    found = re.search(pattern, text, re.MULTILINE)
    if not found:
        raise NotReady(f"{file}: no line like {pattern}")
    start, end = found.span(1)
    file.write_text(text[:start] + version + text[end:], encoding="utf-8")


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise NotReady(f"git {arguments[0]}: {done.stderr.strip() or done.returncode}")
    return done.stdout.strip()


if __name__ == "__main__":
    main(sys.argv[1:])
