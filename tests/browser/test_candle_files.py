"""The page's reader, on files as people have them; the job's is tested with the same table."""

import base64
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Page

from kronos_space.server.pages import STATIC
from tests.support.browser import chromium
from tests.support.candle_files import CandleFile, every_candle_file, moment
from tradingbot.markets import column_names

READ = """async (content) => {
    const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
    try {
        return readCandles(await textOf(new File([bytes], "candles.csv"), 5e6));
    } catch (error) {
        if (error instanceof CsvError) return { error: error.message };
        throw error;
    }
}"""


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    """A page with the reader's scripts alone; no server."""
    with chromium() as browser:
        page = browser.new_page()
        for script in ("headings.js", "cells.js", "candles.js"):
            page.add_script_tag(path=STATIC / script)
        yield page


@every_candle_file
def test_a_file_is_read_as_it_is_meant_or_refused_with_the_reason(
    page: Page, case: CandleFile
) -> None:
    read: dict[str, Any] = page.evaluate(READ, base64.b64encode(case.content).decode())
    if case.refused:
        assert all(str(words).lower() in read["error"].lower() for words in case.refused)
        return
    found = [
        (moment(bar.pop("timestamp")), *(bar[name] for name in bar)) for bar in read.get("bars", [])
    ]
    assert found == case.expected(), read
    assert all(words in "; ".join(read["notes"]) for words in case.notes)


def test_the_page_and_the_job_know_the_same_headings(page: Page) -> None:
    known = page.evaluate("({ NAMES, INDEX, OTHER: OTHER.sort(), BEFORE: BEFORE.sort() })")
    assert known == {
        "NAMES": {name: list(names) for name, names in column_names.NAMES.items()},
        "INDEX": list(column_names._INDEX),
        "OTHER": sorted(column_names._OTHER),
        "BEFORE": sorted(column_names._BEFORE),
    }
