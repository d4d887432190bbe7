"""Hints on how to install a missing package."""

import re
import shlex
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.support import ROOT
from tradingbot import install_command as module
from tradingbot.install_command import install_command

NOWHERE = re.compile(r"pip install [^\n`]*(?<!/)kronos-tradingbots")
EXTRAS = ("ai", "mcp", "parquet", "plot", "report", "sample", "space")


@pytest.fixture(autouse=True)
def nothing_remembered() -> None:
    install_command.cache_clear()


@pytest.mark.parametrize("extra", EXTRAS)
def test_install_hints_are_correct_in_a_clone_and_from_a_wheel(
    extra: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    output = install_command(extra)
    pip, install, *packages = shlex.split(output)
    assert (pip, install) == ("pip", "install")
    assert packages
    names = {Requirement(package).name for package in packages}
    assert not any("kronos" in name for name in names)

    install_command.cache_clear()
    # as when installed from a wheel
    monkeypatch.setattr(module, "PROJECT", tmp_path / "pyproject.toml")
    marked = [f'{package}; extra == "{extra}"' for package in packages]
    monkeypatch.setattr(module, "requires", lambda name: ["numpy>=2", *marked])
    assert install_command(extra) == output


def test_no_text_suggests_installing_the_project_from_an_index() -> None:
    found = [
        str(path.relative_to(ROOT))
        for folder in ("tradingbot", "kronos_space", "docs", "examples", "README.md")
        for path in [ROOT / folder, *(ROOT / folder).rglob("*")]
        if path.suffix in {".py", ".md", ".html", ".j2"}
        and re.search(
            r"pip install [^\n`]*(?<!/)kronos-tradingbots", path.read_text(encoding="utf-8")
        )
    ]
    assert found == []
