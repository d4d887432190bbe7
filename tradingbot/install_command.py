"""The command that installs the packages of an optional feature.

`pip install` with the project's name would fail, because the project is on no package index.
"""

import re
import shlex
import tomllib
from functools import cache
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

NAME = "kronos-tradingbots"
PROJECT = Path(__file__).parent.parent / "pyproject.toml"  # exists in a clone


@cache
def install_command(extra: str) -> str:
    """Return the command that installs the packages of an extra: pip install 'plotly>=7.1'."""
    return f"pip install {shlex.join(_of_clone(extra) or _of_wheel(extra) or [f'<{extra}>'])}"


def _of_clone(extra: str) -> list[str]:
    if not PROJECT.is_file():
        return []
    project = tomllib.loads(PROJECT.read_text(encoding="utf-8")).get("project", {})
    found: list[str] = project.get("optional-dependencies", {}).get(extra, [])
    return found if project.get("name") == NAME else []


def _of_wheel(extra: str) -> list[str]:
    try:
        requirements = [requirement.partition(";") for requirement in requires(NAME) or []]
    except PackageNotFoundError:
        return []
    marker = re.compile(rf"""extra == ["']{re.escape(extra)}["']""")
    return [package.strip() for package, _, only in requirements if marker.search(only)]
