"""The versions in constraints.txt install on every Python that the project supports."""

import re
import tomllib
from importlib.metadata import distributions

import pytest
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from tests.support import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
OLDEST = PROJECT["requires-python"].removeprefix(">=") + ".0"  # Debian 12 has 3.11.2
PINNED = {
    canonicalize_name(name)
    for name in re.findall(r"^([\w.-]+)==", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
}
ASKED = {
    name: asked
    for package in distributions()
    if (name := canonicalize_name(package.name)) in PINNED
    and (asked := package.metadata.get("Requires-Python"))
}


@pytest.mark.parametrize("name", sorted(ASKED))
def test_no_pin_requires_a_newer_python_than_the_project(name: str) -> None:
    assert SpecifierSet(ASKED[name]).contains(OLDEST), f"{name} wants Python {ASKED[name]}"
