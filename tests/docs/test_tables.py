"""The tables of the documentation."""

import re
from collections.abc import Iterator
from itertools import pairwise

import pytest

from tests.support.doc_pages import pages

RULE = re.compile(r"\|(\s*:?-+:?\s*\|)+")


def table_heads() -> Iterator[tuple[str, str]]:
    for page, text in pages().items():
        lines = text.splitlines()
        for above, line in pairwise(lines):
            if RULE.fullmatch(line.strip()):
                yield page, above


@pytest.mark.parametrize(("page", "head"), list(table_heads()))
def test_every_column_of_a_table_has_a_heading(page: str, head: str) -> None:
    cells = head.strip().strip("|").split("|")
    assert all(cell.strip() for cell in cells)
