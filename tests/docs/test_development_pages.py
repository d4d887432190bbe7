"""The architecture page names existing code."""

import re
from collections.abc import Iterator

import pytest

from tests.support import ROOT

PAGES = [ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs" / "development").rglob("*.md"))]
BASES = [ROOT, ROOT / "tradingbot", ROOT / "kronos_space"]


def paths_named() -> Iterator[tuple[str, str]]:
    for page in PAGES:
        for path in re.findall(r"`([\w./-]+(?:/|\.py|\.toml|\.txt))`", page.read_text()):
            yield str(page.relative_to(ROOT)), path


@pytest.mark.parametrize(("page", "path"), sorted(set(paths_named())))
def test_project_paths_on_the_page_exist(page: str, path: str) -> None:
    # a sentence about one package omits the package's name
    inner = [base for top in BASES[1:] for base in top.iterdir() if base.is_dir()]
    assert any((base / path).exists() for base in [*BASES, *inner])
