"""The page's reader on common candle files; the job's reader is tested with the same table."""

import base64
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from kronos_space.server.pages import STATIC
from tests.support.candle_files import CandleFile, every_candle_file, moment
from tradingbot.markets import column_names

READ = """async ([content, ticker]) => {
    const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
    try {
        return readCandles(await textOf(new File([bytes], "candles.csv"), 5e6), Infinity, ticker);
    } catch (error) {
        if (error instanceof CsvError) return { error: error.message, tickers: error.tickers };
        throw error;
    }
}"""


@pytest.fixture(scope="module")
def page(browser: Browser) -> Iterator[Page]:
    """A page with only the reader's scripts, without a server."""
    page = browser.new_page()
    for script in ("headings.js", "cells.js", "candles.js"):
        page.add_script_tag(path=STATIC / script)
    yield page
    page.close()


@every_candle_file
def test_a_file_is_read_correctly_or_refused_with_the_reason(page: Page, case: CandleFile) -> None:
    read: dict[str, Any] = page.evaluate(READ, [base64.b64encode(case.content).decode(), None])
    if case.refused:
        assert all(str(words).lower() in read["error"].lower() for words in case.refused)
        return
    found = [
        (moment(bar.pop("timestamp")), *(bar[name] for name in bar)) for bar in read.get("bars", [])
    ]
    assert found == case.expected(), read
    assert all(words in "; ".join(read["notes"]) for words in case.notes)


MANY = {
    "long": """
        date,open,high,low,close,volume,Name
        2026-01-05,10,11,9,10.5,1,AAPL
        2026-01-05,20,21,19,20.5,2,BRK.B
        2026-01-06,11,12,10,11.5,3,AAPL
        2026-01-06,21,22,20,21.5,4,BRK.B
        2026-01-05,,,,,,NEW""",
    "yfinance": """
        Price,Close,Close,Close,High,High,High,Low,Low,Low,Open,Open,Open,Volume,Volume,Volume
        Ticker,AAPL,BRK.B,NEW,AAPL,BRK.B,NEW,AAPL,BRK.B,NEW,AAPL,BRK.B,NEW,AAPL,BRK.B,NEW
        Date,,,,,,,,,,,,,,,
        2026-01-05,10.5,20.5,,11,21,,9,19,,10,20,,1,2,
        2026-01-06,11.5,21.5,,12,22,,10,20,,11,21,,3,4,""",
    "yfinance, by ticker": """
        Ticker,AAPL,AAPL,AAPL,AAPL,AAPL,BRK.B,BRK.B,BRK.B,BRK.B,BRK.B
        Price,Open,High,Low,Close,Volume,Open,High,Low,Close,Volume
        Date,,,,,,,,,,
        2026-01-05,10,11,9,10.5,1,20,21,19,20.5,2
        2026-01-06,11,12,10,11.5,3,21,22,20,21.5,4""",
    "without an index": """
        Date,Close,Close,High,High,Low,Low,Open,Open,Volume,Volume
        ,AAPL,BRK.B,AAPL,BRK.B,AAPL,BRK.B,AAPL,BRK.B,AAPL,BRK.B
        2026-01-05,10.5,20.5,11,21,9,19,10,20,1,2
        2026-01-06,11.5,21.5,12,22,10,20,11,21,3,4""",
}


@pytest.mark.parametrize("form", MANY)
def test_one_ticker_of_a_file_of_several_can_be_chosen(page: Page, form: str) -> None:
    text = "\n".join(line.strip() for line in MANY[form].strip().splitlines())
    content = base64.b64encode(text.encode()).decode()
    assert page.evaluate(READ, [content, None])["tickers"][:2] == ["AAPL", "BRK.B"]
    bars = page.evaluate(READ, [content, "BRK.B"])["bars"]
    assert [list(bar.values())[1:] for bar in bars] == [
        [20, 21, 19, 20.5, 2],
        [21, 22, 20, 21.5, 4],
    ]
    assert [bar["close"] for bar in page.evaluate(READ, [content, "AAPL"])["bars"]] == [10.5, 11.5]
    if form in ("long", "yfinance"):
        assert "no candles" in page.evaluate(READ, [content, "NEW"])["error"]


def test_the_page_and_the_job_accept_the_same_column_names(page: Page) -> None:
    known = page.evaluate("({ NAMES, INDEX, OTHER: OTHER.sort(), BEFORE: BEFORE.sort() })")
    assert known == {
        "NAMES": {name: list(names) for name, names in column_names.NAMES.items()},
        "INDEX": list(column_names._INDEX),
        "OTHER": sorted(column_names._OTHER),
        "BEFORE": sorted(column_names._BEFORE),
    }
