"""The page at `/` in a real Chromium, with a real server process."""

import json
import re
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import pytest
import requests
import uvicorn
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect

from kronos_space.app import create_app
from kronos_space.schemas import ForecastRequest
from kronos_space.server.pages import OUTCOME_BARS, SAMPLES, STATIC
from kronos_space.settings import Settings
from kronos_space.weights.checkpoint import load_checkpoint
from tests.support.candles import bars
from tests.support.checkpoints import NANO
from tradingbot.data.service import DataService

expect.set_options(timeout=60_000)  # a busy machine takes seconds to load plotly


@pytest.fixture(scope="module")
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A browser context. Requests to other hosts and script errors fail the test."""
    wrong: list[str] = []
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(60_000)
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    context.on("request", lambda asked: None if _is_local(asked.url) else wrong.append(asked.url))
    context.on("weberror", lambda failed: wrong.append(str(failed.error)))
    yield context
    context.close()
    assert wrong == []


@pytest.fixture(scope="module")
def visited(context: BrowserContext, space_url: str) -> Page:
    """The open page; loading plotly takes a second or two."""
    return opened(context, space_url)


@pytest.fixture
def page(visited: Page) -> Page:
    """The page with the first sample, without a forecast, and with the candle input open."""
    visited.unroute_all()
    visited.evaluate(
        """() => {
            document.getElementById("csv-about").textContent = "";
            document.getElementById("form").reset();
            document.getElementById("own").open = true;
            document.getElementById("sample").dispatchEvent(new Event("change"));
        }"""
    )
    expect(visited.locator("#csv-about")).to_contain_text("240 bars")
    return visited


def opened(context: BrowserContext, url: str, *, forecast: bool = True) -> Page:
    """The page after its first forecast is drawn."""
    page = context.new_page()
    page.goto(url)
    expect(page.locator("#csv-about")).to_contain_text("240 bars")
    expect(page.locator("#chart .main-svg").first).to_be_visible()
    if forecast:
        table(page)
    return page


def _is_local(url: str) -> bool:
    return url.startswith(("http://127.0.0.1:", "data:", "blob:"))


def csv(rows: list[Any], *, delimiter: str = ",") -> str:
    names = [name for name in ("timestamp", *rows[0]) if name != "timestamp"]
    head = ["Date", *(name.capitalize() for name in names)]
    lines = [[row["timestamp"], *(repr(row[name]) for name in names)] for row in rows]
    return "\n".join(delimiter.join(line) for line in [head, *lines])


def ask(page: Page, *, horizon: int = 3, paths: int = 8) -> None:
    page.get_by_label("Bars ahead").fill(str(horizon))
    page.get_by_label("Paths").fill(str(paths))
    page.get_by_role("button", name="Forecast", exact=True).click()


def table(page: Page) -> list[list[str]]:
    """Wait for the forecast; return the cells of its table."""
    expect(page.locator("#results")).not_to_have_attribute("aria-busy", "true")
    expect(page.locator("#answer")).to_be_visible()
    return page.evaluate(
        "[...document.querySelectorAll('#answer tr')]"
        ".map(row => [...row.cells].map(cell => cell.innerText))"
    )


def traces(page: Page) -> list[str]:
    names: list[str] = page.evaluate("document.getElementById('chart').data.map(t => t.name)")
    return names


def test_a_sample_shows_a_chart_a_table_and_the_outcome(page: Page) -> None:
    page.get_by_label("Series").select_option("MSFT")
    expect(page.get_by_label("Name")).to_have_value("MSFT")
    ask(page)
    head, *rows = table(page)
    assert head[:5] == ["Date", "Open", "High", "Low", "Close"]
    assert [cell.replace("\u00a0", " ") for cell in head[5:]] == [
        *("10 %", "25 %", "50 %", "75 %", "90 %"),
        "Up",
        "Volume",
    ]
    assert [row[0] for row in rows] == ["2013-02-01", "2013-02-04", "2013-02-05"]
    for row in rows:
        assert sorted(map(float, row[5:10])) == list(map(float, row[5:10]))
    assert traces(page) == ["candles", "80 % band", "50 % band", "median", "outcome"]
    expect(page.locator("#summary")).to_contain_text("By 2013-02-05 the median path closes at")
    page.get_by_text("How it was made").click()
    made = page.locator("#made").inner_text()
    assert "kronos-nano, not meant for trading" in made
    assert re.search(r"prices . [01]\.\d{4}", made)
    defaults = ForecastRequest.model_fields
    for name in ("temperature", "top_p"):
        assert re.search(rf"{name}\n{defaults[name].default:g}\b", made, re.IGNORECASE)
    expect(page.locator(".honest")).to_contain_text("It is not advice")


@pytest.mark.parametrize("size", [(1400, 900), (390, 844)], ids=["desk", "phone"])
def test_the_first_screen_has_a_forecast_and_the_button_that_makes_another(
    browser: Browser, space_url: str, size: tuple[int, int]
) -> None:
    width, height = size
    visitor = browser.new_context(
        viewport={"width": width, "height": height}, is_mobile=width < 500, has_touch=width < 500
    )
    page = opened(visitor, space_url)

    def edges(name: str) -> tuple[float, float]:
        box = page.locator(name).bounding_box()
        assert box is not None
        return box["y"], box["y"] + box["height"]

    def seen() -> None:
        assert page.evaluate("scrollY") == 0
        assert page.evaluate("document.documentElement.scrollWidth") == width
        for name in ("#go", "#summary", "#chart"):
            top, bottom = edges(name)
            assert 0 <= top < bottom <= height, name
        assert traces(page)[-2:] == ["median", "outcome"]

    seen()
    assert page.locator("#csv").is_hidden()  # the candle input is collapsed
    assert "not meant for trading" in page.locator(".about").inner_text()
    first, place = page.locator("#summary").inner_text(), edges("#chart")
    page.get_by_role("button", name="Forecast", exact=True).click()
    expect(page.locator("#summary")).not_to_have_text(first)
    table(page)
    seen()
    assert edges("#chart") == place  # nothing has moved
    for font in ("serif", "monospace", "sans-serif; letter-spacing: 0.1em"):
        page.evaluate(f"document.body.style = 'font-family: {font}'")
        assert edges("#chart")[1] <= height, font  # fonts differ between machines
    visitor.close()


def test_failed_requests_on_opening_the_page_show_no_error(
    context: BrowserContext, space_url: str
) -> None:
    page = context.new_page()
    page.route("**/predict", lambda route: route.fulfill(status=503, body="{}"))
    page.goto(space_url)
    expect(page.locator("#summary")).to_contain_text("Press Forecast")
    expect(page.get_by_role("alert")).to_be_empty()
    page.unroute("**/predict")
    page.get_by_role("button", name="Forecast", exact=True).click()
    table(page)
    page.close()


def test_the_numbers_and_the_chart_can_be_saved(page: Page, tmp_path: Path) -> None:
    dear = [
        {name: value if name == "timestamp" else 100 * value for name, value in row.items()}
        for row in bars(40)
    ]
    page.get_by_label("Candles as CSV").fill(csv(dear))
    page.get_by_label("Name").fill("^GSPC / spot")
    with page.expect_response("**/predict") as answered:
        ask(page)
    shown = table(page)
    with page.expect_download() as saved:
        page.get_by_role("button", name="Save as CSV").click()
    assert saved.value.suggested_filename == "^GSPC-spot-2026-02-27.csv"
    saved.value.save_as(tmp_path / "forecast.csv")
    frame = pd.read_csv(tmp_path / "forecast.csv")
    for row, bar in zip(
        frame.to_dict("records"), answered.value.json()["predictions"], strict=True
    ):
        assert row["close"] == bar["close"]
        assert row["close_p10"] == bar["close_quantiles"]["0.1"]
        assert row["prob_up"] == bar["prob_up"]
        assert row["target_date"] == bar["target_date"]
    assert shown[1][4] == f"{frame['close'][0]:,.2f}"
    with page.expect_download() as saved:
        page.get_by_role("button", name="Save as PNG").click()
    saved.value.save_as(tmp_path / "chart.png")
    picture = (tmp_path / "chart.png").read_bytes()
    assert picture[:8] == b"\x89PNG\r\n\x1a\n"
    assert int.from_bytes(picture[16:20]) == 2400  # pixels


def test_a_seed_repeats_a_forecast_and_the_one_used_is_shown(page: Page) -> None:
    ask(page)
    first = table(page)
    seed = page.locator("#made div", has_text="Seed").locator("dd").text_content() or ""
    page.get_by_label("Seed").fill(seed)
    page.evaluate("document.querySelector('#answer tbody').replaceChildren()")
    ask(page)
    expect(page.locator("#answer tbody tr")).to_have_count(3)
    assert table(page) == first


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_pasted_candles_are_read_whatever_separates_their_columns(
    page: Page, delimiter: str
) -> None:
    page.get_by_label("Candles as CSV").fill(csv(bars(40), delimiter=delimiter))
    expect(page.locator("#csv-about")).to_have_text("40 bars, 2026-01-05 to 2026-02-27.")
    assert traces(page) == ["candles"]
    ask(page)
    assert [row[0] for row in table(page)[1:]] == ["2026-03-02", "2026-03-03", "2026-03-04"]
    expect(page.locator("#sample")).to_have_value("")
    assert "outcome" not in traces(page)


def test_yahoos_columns_newest_first_with_decimal_commas_are_understood(page: Page) -> None:
    rows = [
        ";".join(
            [
                row["timestamp"],
                *(f"{row[name]:.2f}".replace(".", ",") for name in ("open", "high", "low")),
                f"{row['close']:.2f}".replace(".", ","),
                "1,5",
                str(int(row["volume"])),
            ]
        )
        for row in reversed(bars(40))
    ]
    text = "\r\n".join(["\ufeffDATE;Open;High;Low;Close*;Adj Close**;Volume", *rows, ""])
    page.get_by_label("Candles as CSV").fill(text)
    expect(page.locator("#csv-about")).to_contain_text("newest first, so turned round")
    ask(page)
    assert table(page)[1][0] == "2026-03-02"


def test_intraday_candles_without_volume_keep_their_times_and_zone(page: Page) -> None:
    rows = [
        f"2026-11-{2 + hour // 24:02d}T{hour % 24:02d}:00:00+01:00,1.1,1.2,1.0,{1.1 + hour / 1000}"
        for hour in range(72)
    ]
    page.get_by_label("Candles as CSV").fill("\n".join(["time,open,high,low,close", *rows]))
    ask(page, horizon=2)
    head, first, _ = table(page)
    assert "Volume" not in head
    assert first[0] == "2026-11-05 00:00+01:00"
    assert re.fullmatch(r"1\.\d{4}", first[4])


def test_a_dropped_file_is_read_and_gives_its_name(page: Page) -> None:
    transfer = page.evaluate_handle(
        """text => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([text], "SPY.csv", { type: "text/csv" }));
            return transfer;
        }""",
        csv(bars(40)),
    )
    page.dispatch_event("#csv", "dragover", {"dataTransfer": transfer})
    expect(page.locator("#drop")).to_have_class("field over")
    page.dispatch_event("#csv", "drop", {"dataTransfer": transfer})
    expect(page.get_by_label("Name")).to_have_value("SPY")
    expect(page.locator("#csv-about")).to_contain_text("40 bars")
    ask(page)
    expect(page.locator("#results-title")).to_have_text("SPY: the next 3 bars")


def test_a_chosen_file_is_read_too(page: Page, tmp_path: Path) -> None:
    (tmp_path / "QQQ.csv").write_text(csv(bars(40)))
    page.locator("#file").set_input_files(tmp_path / "QQQ.csv")
    expect(page.get_by_label("Name")).to_have_value("QQQ")
    expect(page.locator("#csv-about")).to_contain_text("40 bars")


def test_one_ticker_of_a_file_of_ten_is_chosen(page: Page, tmp_path: Path) -> None:
    rows = csv(bars(40)).splitlines()
    tickers = [f"T{number}" for number in range(10)]
    lines = [f"{rows[0]},ticker", *(f"{row},{ticker}" for ticker in tickers for row in rows[1:])]
    (tmp_path / "market.csv").write_text("\n".join(lines))
    page.locator("#file").set_input_files(tmp_path / "market.csv")
    expect(page.locator("#csv-about")).to_have_text("40 bars, 2026-01-05 to 2026-02-27.")
    expect(page.locator("#ticker-help")).to_have_text("The candles are of 10 tickers.")
    expect(page.get_by_label("Name")).to_have_value("T0")
    page.get_by_label("Ticker").select_option("T7")
    expect(page.get_by_label("Name")).to_have_value("T7")
    with page.expect_request("**/predict") as asked:
        ask(page)
    sent = asked.value.post_data_json
    assert (sent["symbol"], len(sent["ohlcv"])) == ("T7", 40)
    assert len(table(page)) == 4
    page.get_by_label("Candles as CSV").fill(csv(bars(40)))
    expect(page.locator("#ticker-field")).to_be_hidden()


@pytest.mark.parametrize(
    ("row", "line", "message"),
    [
        (
            1,
            "day,first,top,bottom,x",
            "Row 1: no column date, open, high, low, close; the first row",
        ),
        (2, "tomorrow,1,1,1,1", "Row 2: date “tomorrow” is not like 2026-11-20, 20.11.2026 or 2"),
        (3, "01/06/2026,1,1,1,1", "Row 3: date “01/06/2026” is not like 2026-01-05, the first."),
        (4, "2026-01-07,1,1,1", "Row 4: close is empty."),
        (5, "2026-01-08,1,x,1,1", "Row 5: high “x” is not a number like 1234.56."),
        (5, "2026-01-08,1,1e999,1,1", "Row 5: high “1e999” is not a number like 1234.56."),
    ],
)
def test_a_row_that_cannot_be_read_is_named_with_the_reason(
    page: Page, row: int, line: str, message: str
) -> None:
    lines = csv(bars(40, volume=False)).split("\n")
    lines[row - 1] = line
    page.get_by_label("Candles as CSV").fill("\n".join(lines))
    expect(page.locator("#csv-error")).to_contain_text(message)
    ask(page)
    expect(page.get_by_label("Candles as CSV")).to_be_focused()
    assert page.evaluate("getSelection().toString()") == line
    expect(page.get_by_label("Candles as CSV")).to_have_attribute("aria-invalid", "true")


def read(page: Page, text: str) -> dict[str, Any]:
    """Return the page's result for a CSV: bars and notes, or the error."""
    return page.evaluate(
        """text => {
            try {
                const { bars, rows, notes } = readCandles(text);
                return { bars, rows, notes };
            } catch (error) {
                if (error instanceof CsvError) return { error: error.message };
                throw error;
            }
        }""",
        text,
    )


@pytest.mark.parametrize(
    ("text", "bar"),
    [
        ("Datum;Eröffnung;Hoch;Tief;Schluss;Volumen\n20.11.2026;9,5;12;9,25;10;1.234.567",
         ("2026-11-20", 9.5, 12, 9.25, 10, 1234567)),
        ("Datum;Erster;Hoch;Tief;Schlusskurs\n20.11.2026;1.009,5;1.012,5;1.009,25;1.010",
         ("2026-11-20", 1009.5, 1012.5, 1009.25, 1010)),
        ("Date;Open;High;Low;Close\n5.1.2026 9:30;9.125;12.25;9.1;10.5",
         ("2026-01-05T09:30", 9.125, 12.25, 9.1, 10.5)),
        ("Date,Open,High,Low,Close,Adj Close,Volume\n2026-11-20,9.5,12,9,10,9.9,1000",
         ("2026-11-20", 9.5, 12, 9, 10, 1000)),
        ("Date,Open,High,Low,Close,Volume,Dividends,Stock Splits\n"
         "2026-11-20 00:00:00-05:00,9.5,12,9,10,1000,0.0,0.0",
         ("2026-11-20 00:00:00-05:00", 9.5, 12, 9, 10, 1000)),
        ("Date\tOpen\tHigh\tLow\tClose Close price adjusted for splits.\t"
         "Adj Close Adjusted close price.\tVolume\n"
         "Nov 20, 2026\t1,009.50\t1,012.00\t999.00\t1,010.00\t9.90\t59,030,800",
         ("2026-11-20", 1009.5, 1012, 999, 1010, 59030800)),
        ("Date,Close/Last,Volume,Open,High,Low\n11/20/2026,$10.00,1000,$9.50,$12.00,$9.00",
         ("2026-11-20", 9.5, 12, 9, 10, 1000)),
        ('"Date","Price","Open","High","Low","Vol.","Change %"\n'
         '"11/20/2026","1,010.00","1,009.50","1,012.00","999.00","54.21M","-0.1%"',
         ("2026-11-20", 1009.5, 1012, 999, 1010, 54210000)),
        ("<DATE>,<TIME>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>\n2026.11.20,15:30,9.5,12,9,10,1000",
         ("2026-11-20T15:30", 9.5, 12, 9, 10, 1000)),
        ("Date Time;Open;High;Low;Close\n20-Nov-2026 4:05 PM;9,5;12;9;10",
         ("2026-11-20T16:05", 9.5, 12, 9, 10)),
        ("unix,open,high,low,close\n1795188600,9.5,12,9,10",
         ("2026-11-20T15:30:00Z", 9.5, 12, 9, 10)),
        ("Date;Open;High;Low;Close;Volume\n20261120;38,450;38,500;38,400;38,475;1",
         ("2026-11-20", 38.45, 38.5, 38.4, 38.475, 1)),
        ("date,open,high,low,close,volume\n2026-11-20,'9'950.5,12'000,9'900,10'000,null",
         ("2026-11-20", 9950.5, 12000, 9900, 10000)),
    ],
)  # fmt: skip
def test_usual_candle_formats_are_read(page: Page, text: str, bar: tuple[str | float, ...]) -> None:
    names = ("timestamp", "open", "high", "low", "close", "volume")
    [found] = read(page, text)["bars"]
    assert found == dict(zip(names, bar, strict=False))


def test_the_order_of_day_and_month_is_decided_by_all_rows_or_refused(
    page: Page,
) -> None:
    head = "date,open,high,low,close\n"
    days = [f"{day:02d}/11/2026,1,1,1,1" for day in (10, 11, 12, 13)]
    result = read(page, head + "\n".join(days))
    assert [bar["timestamp"] for bar in result["bars"]][::3] == ["2026-11-10", "2026-11-13"]
    assert result["notes"] == ["dates read as day/month/year"]
    assert read(page, head + "\n".join(days[:3])) == {
        "error": "Row 2: date “10/11/2026” is ambiguous: "
        "it may be 10 November or 11 October; write 2026-11-10 or 2026-10-11."
    }


def test_lines_without_prices_are_skipped_with_a_note(page: Page) -> None:
    rows = csv(bars(40, volume=False)).split("\n")
    rows[5:5] = ["2026-01-08,null,null,null,null", '"Jan 7, 2026",0.26 Dividend', "from: a friend"]
    page.get_by_label("Candles as CSV").fill("\n".join(rows))
    expect(page.locator("#csv-about")).to_have_text(
        "40 bars, 2026-01-05 to 2026-02-27; 3 rows without prices left out."
    )


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "Paste candles, drop a file, or choose a sample."),
        (" \n\n", "Paste candles, drop a file, or choose a sample."),
        ("date,open,high,low,close", "There are no candles below the header."),
        ("Date,Open,High,Low\n2026-11-20,1,1,1", "Row 1: no column close; the first row names the"),
        ("a b c", "Row 1: no column date, open, high, low, close; the first row names the"),
        ("date,open,high,low,close\n20.11.2026 noon,1,1,1,1", "Row 2: date “20.11.2026 noon” is"),
        ("date,open,high,low,close\nFoo 1 2026,1,1,1,1", "Row 2: date “Foo 1 2026” is not like"),
    ],
)
def test_text_without_candles_is_reported_in_one_sentence(
    page: Page, text: str, error: str
) -> None:
    assert read(page, text)["error"].startswith(error)


def test_twenty_thousand_rows_are_read_in_linear_time_and_the_newest_sent(
    page: Page, tmp_path: Path
) -> None:
    days = [
        f"{2007 + n // 336}-{n // 28 % 12 + 1:02d}-{n % 28 + 1:02d}" for n in range(20_000 // 3)
    ]
    lines = [
        f"{day} {hour},{1 + n / 7:.4f},9e3,1,5,1"
        for n, day in enumerate(days)
        for hour in ("09:00", "12:00", "15:00")
    ]
    (tmp_path / "long.csv").write_text("\n".join(["date,open,high,low,close,volume", *lines]))
    page.locator("#file").set_input_files(tmp_path / "long.csv")
    expect(page.locator("#csv-about")).to_contain_text("only the newest 4,096 of 19,998 are sent")
    ask(page)
    table(page)
    expect(page.locator("#warnings")).to_contain_text("Only the newest 253 of 4096 bars were used")
    times_longer = page.evaluate(
        """() => {
            const whole = document.getElementById("csv").value;
            const part = whole.split("\\n").slice(0, 1001).join("\\n");
            const shortest = (text) => Math.min(...[1, 2, 3, 4, 5].map(() => {
                const started = performance.now();
                readCandles(text);
                return performance.now() - started;
            }));
            return shortest(whole) / shortest(part);
        }"""
    )
    # 20 times the rows; comparing every pair of them would take 400 times as long
    assert times_longer < 100


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("prices.xlsx", b"PK\x03\x04\x00\x00\xff", "prices.xlsx is not text. From a spreadsheet,"),
        ("all.csv", b"1" * 5_000_001, "all.csv is larger than 5 MB; its newest rows will do."),
        ("empty.csv", b"", "Paste candles, drop a file, or choose a sample."),
    ],
)
def test_a_file_without_candles_is_shown_next_to_the_box(
    page: Page, tmp_path: Path, name: str, content: bytes, says: str
) -> None:
    (tmp_path / name).write_bytes(content)
    page.locator("#file").set_input_files(tmp_path / name)
    if not content:
        page.get_by_role("button", name="Forecast", exact=True).click()
    expect(page.locator("#csv-error")).to_contain_text(says)


def test_a_file_in_the_encoding_of_a_spreadsheet_is_read(page: Page, tmp_path: Path) -> None:
    (tmp_path / "SPY.txt").write_text(csv(bars(40), delimiter="\t"), encoding="utf-16")
    page.locator("#file").set_input_files(tmp_path / "SPY.txt")
    expect(page.locator("#csv-about")).to_have_text("40 bars, 2026-01-05 to 2026-02-27.")


def test_the_page_about_the_api_needs_nothing_from_elsewhere(
    context: BrowserContext, space_url: str
) -> None:
    page = context.new_page()  # requests to other hosts fail the test when the context closes
    page.goto(f"{space_url}/docs")
    expect(page.locator(".opblock")).to_have_count(4)
    spoken = page.locator(".opblock-summary-description").all_inner_texts()
    assert "Forecast one ticker" in spoken
    assert all(len(words.split()) >= 3 for words in spoken)  # longer than a function name
    page.locator(".opblock-post").first.click()
    page.get_by_role("button", name="Try it out").click()
    page.get_by_role("button", name="Execute").click()
    expect(page.locator(".live-responses-table .response .response-col_status")).to_contain_text(
        "200"
    )
    page.get_by_role("link", name="To the page for people").click()
    expect(page.get_by_role("heading", name="Kronos forecasts")).to_be_visible()
    page.close()


def test_a_refusal_is_shown_next_to_the_row_it_names(page: Page) -> None:
    rows = bars(40)
    rows[17] |= {"high": 9.1, "low": 9.3}
    page.get_by_label("Candles as CSV").fill(csv(rows))
    ask(page)
    expect(page.locator("#csv-error")).to_have_text("Row 19: high 9.1 is below low 9.3.")
    assert page.evaluate("getSelection().toString()").startswith("2026-01-28,")
    page.get_by_label("Candles as CSV").fill(csv(bars(10)))
    ask(page)
    expect(page.locator("#csv-error")).to_have_text("10 rows of history: expected 32 to 4096.")
    page.get_by_label("Candles as CSV").fill(csv(bars(40)))
    expect(page.locator("#csv-error")).to_be_empty()


def test_a_number_out_of_bounds_is_shown_next_to_its_field(page: Page) -> None:
    ask(page, horizon=0, paths=1000)
    expect(page.locator("#horizon-error")).to_have_text("Bars ahead: a whole number from 1 to 224.")
    expect(page.locator("#paths-error")).to_have_text("Paths: a whole number from 1 to 256.")
    expect(page.get_by_label("Bars ahead")).to_be_focused()
    ask(page)
    expect(page.locator("#horizon-error")).to_be_empty()
    table(page)


def test_the_page_distinguishes_a_full_queue_a_dead_server_and_a_broken_one(page: Page) -> None:
    def full(route: Route) -> None:
        body = {"error": {"code": "queue_full", "message": "512 series are waiting"}}
        route.fulfill(status=429, headers={"Retry-After": "7"}, body=json.dumps(body))

    page.route("**/predict", full)
    ask(page)
    alert = page.get_by_role("alert")
    expect(alert).to_have_text("512 series are waiting. Try again in 7 seconds.")
    page.unroute("**/predict")
    page.route("**/predict", lambda route: route.abort())
    ask(page)
    expect(alert).to_contain_text("The Space did not answer.")
    page.context.set_offline(True)
    ask(page)
    expect(alert).to_contain_text("This device is offline")
    page.context.set_offline(False)
    page.unroute("**/predict")
    page.route("**/predict", lambda route: route.fulfill(status=502, body="<html>"))
    ask(page)
    expect(alert).to_have_text("The Space answered 502.")
    page.unroute("**/predict")
    ask(page)
    table(page)
    expect(alert).to_be_empty()


def test_the_page_shows_that_it_is_waiting_and_can_cancel(page: Page) -> None:
    held: list[Route] = []
    page.route("**/predict", lambda route: held.append(route))
    ask(page)
    expect(page.get_by_label("Computing the forecast")).to_be_visible()
    expect(page.locator("#waiting-for")).to_have_text("Simulating AAPL: 8 paths, 3 bars each.")
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_label("Computing the forecast")).to_be_hidden()
    expect(page.get_by_role("button", name="Forecast", exact=True)).to_be_focused()
    expect(page.locator("#answer")).to_be_hidden()
    page.unroute("**/predict")
    ask(page)
    table(page)


def test_the_keyboard_is_enough(context: BrowserContext, space_url: str) -> None:
    page = opened(context, space_url)
    stops = ["HTTP API", "sample", "horizon", "paths", "seed", "go"]
    page.keyboard.press("Tab")  # the link that skips the form
    for stop in stops:
        page.keyboard.press("Tab")
        focused = page.evaluate("document.activeElement.id || document.activeElement.innerText")
        assert focused == stop
    page.keyboard.press("Enter")
    table(page)
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # opens the candle input
    for stop in ["csv", "file", "symbol", "shown", "save-png", "copy-table", "save-csv"]:
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.id") == stop
    page.close()


def test_the_table_and_the_command_can_be_copied_and_the_command_runs(page: Page) -> None:
    ask(page)
    shown = table(page)
    page.get_by_role("button", name="Copy", exact=True).click()
    expect(page.locator("#copied")).to_have_text("Copied the table.")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert [line.split("\t") for line in copied.splitlines()] == [
        [cell.replace("\u00a0", " ").replace(",", "") for cell in row] for row in shown
    ]
    page.get_by_text("The same from a terminal").click()
    page.get_by_role("button", name="Copy the command").click()
    expect(page.locator("#copied")).to_have_text("Copied the command.")
    command = page.evaluate("navigator.clipboard.readText()")
    run = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=30)
    closes = [f"{bar['close']:.2f}" for bar in json.loads(run.stdout)["predictions"]]
    assert closes == [row[4] for row in shown[1:]]


def test_copying_works_without_a_clipboard(page: Page) -> None:
    ask(page)
    table(page)
    page.evaluate("navigator.clipboard.writeText('something else')")
    page.evaluate("() => { navigator.clipboard.writeText = () => Promise.reject() }")
    page.locator("#copy-table").click()
    expect(page.locator("#copy-table")).to_have_text("Copied")
    expect(page.locator("#copy-table")).to_be_focused()
    assert page.evaluate("navigator.clipboard.readText()").startswith("Date\tOpen\t")


def test_the_page_scrolls_in_one_direction_only_on_a_phone_of_320_pixels(
    browser: Browser, space_url: str
) -> None:
    phone = browser.new_context(
        viewport={"width": 320, "height": 640}, is_mobile=True, has_touch=True
    )
    page = opened(phone, space_url)
    ask(page)
    table(page)
    page.get_by_text("The same from a terminal").click()
    expect(page.locator("#curl")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") == 320
    large = [{name: 1e9 * value if name != "timestamp" else value for name, value in row.items()}
             for row in bars(60)]  # fmt: skip
    page.locator("#own summary").click()
    page.get_by_label("Candles as CSV").fill(csv(large))
    page.get_by_label("Name").fill("A" * 64)
    ask(page)
    expect(page.locator("#results-title")).to_contain_text("A" * 64)
    table(page)
    assert page.evaluate("document.documentElement.scrollWidth") == 320
    phone.close()


def test_a_printed_forecast_has_all_columns(browser: Browser, space_url: str) -> None:
    # A4 without margins; a page script would be forbidden to wait for the condition
    paper = browser.new_context(viewport={"width": 718, "height": 1000}, bypass_csp=True)
    page = opened(paper, space_url)
    page.emulate_media(media="print")
    expect(page.locator("form")).to_be_hidden()
    assert page.evaluate("document.documentElement.scrollWidth") <= 718
    widths = page.evaluate(
        "[document.querySelector('#answer table').offsetWidth,"
        " document.querySelector('#answer .scroll').clientWidth]"
    )
    assert widths[0] <= widths[1]
    page.emulate_media(media="screen")
    page.set_viewport_size({"width": 1400, "height": 900})
    wide = "document.querySelector('#chart svg').clientWidth > 800"
    page.wait_for_function(wide)
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.evaluate("document.querySelector('#chart svg').clientWidth") == 660
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    page.wait_for_function(wide)
    paper.close()


def test_every_field_has_a_label_and_every_text_enough_contrast(page: Page) -> None:
    unnamed = page.evaluate(
        "[...document.querySelectorAll('input, select, textarea')]"
        ".filter(field => !field.labels.length).map(field => field.id)"
    )
    assert unnamed == []
    schemes: list[Literal["dark", "light"]] = ["dark", "light"]
    for scheme in schemes:
        page.emulate_media(color_scheme=scheme)
        for text in ("--text", "--quiet", "--error", "--accent"):
            for behind in ("--card", "--page"):
                assert _contrast(page, text, behind) >= 4.5, (scheme, text, behind)
        assert _contrast(page, "--on-accent", "--accent") >= 4.5
        assert _contrast(page, "--edge", "--card") >= 3


def _contrast(page: Page, one: str, other: str) -> float:
    """Return the WCAG contrast ratio of two colours of the page's style."""
    style = "getComputedStyle(document.documentElement).getPropertyValue"
    lights = []
    for name in (one, other):
        value = page.evaluate(f"{style}('{name}')").strip().removeprefix("#")
        shares = [int(value[at : at + 2], 16) / 255 for at in (0, 2, 4)]
        linear = [s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares]
        lights.append(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2])
    return (max(lights) + 0.05) / (min(lights) + 0.05)


@pytest.fixture
def locked_url() -> Iterator[str]:
    """The URL of a server in this process, which is faster than a new one; its key is "open!"."""
    app = create_app(Settings(api_key="open!", threads=1), checkpoint=load_checkpoint(str(NANO)))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_config=None))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join()


def test_a_space_with_a_key_asks_for_it_and_shows_only_the_page(
    context: BrowserContext, locked_url: str
) -> None:
    for path in ("/docs", "/metrics", "/openapi.json", "/static", "/static%2f..%2fmetrics"):
        assert requests.get(locked_url + path, timeout=10).status_code in (401, 404)
    page = opened(context, locked_url, forecast=False)
    expect(page.locator("#summary")).to_contain_text("Press Forecast")
    ask(page)
    expect(page.locator("#key-error")).to_have_text("This Space needs its key.")
    page.get_by_label("API key").fill("wrong")
    ask(page)
    expect(page.locator("#key-error")).to_have_text("The Space refused this key.")
    expect(page.get_by_label("API key")).to_be_focused()
    page.get_by_label("API key").fill("open!")
    ask(page)
    table(page)
    expect(page.locator("#curl")).to_contain_text('-H "X-API-Key: $KRONOS_API_KEY"')
    assert "open!" not in page.content()
    page.close()


def test_a_space_without_a_key_does_not_ask_for_one(page: Page) -> None:
    expect(page.get_by_label("API key")).to_be_hidden()


def test_files_are_cached_by_etag_and_downloaded_only_when_changed(
    space_url: str,
) -> None:
    html = requests.get(space_url, timeout=10)
    assert html.headers["Cache-Control"] == "no-cache"
    assert "default-src 'none'" in html.headers["Content-Security-Policy"]
    assert "{{" not in html.text
    [script] = re.findall(r'src="(static/plotly[^"]+)"', html.text)
    plotly = requests.get(f"{space_url}/{script}", timeout=10)
    assert plotly.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert plotly.headers["Content-Encoding"] == "gzip"
    again = {"If-None-Match": plotly.headers["ETag"]}
    assert requests.get(f"{space_url}/{script}", headers=again, timeout=10).status_code == 304
    plain = requests.get(f"{space_url}/static/page.js?v=old", headers={"Accept-Encoding": ""})
    assert plain.headers["Cache-Control"] == "no-cache"
    assert plain.text == (STATIC / "page.js").read_text()
    assert requests.get(f"{space_url}/static/../page.py", timeout=10).status_code == 404
    assert requests.get(f"{space_url}/static/index.html", timeout=10).status_code == 404
    assert requests.head(space_url, timeout=10).status_code == 200


@pytest.mark.parametrize("name", SAMPLES)
def test_the_samples_are_the_newest_candles_of_the_sample_source(name: str) -> None:
    header, *lines = (STATIC / "samples" / f"{name}.csv").read_text().splitlines()
    assert header == "date,open,high,low,close,volume"
    held_back = max(6, OUTCOME_BARS)
    history = DataService("sample", horizon=held_back).history(name, bars=240)
    assert len(lines) == len(history) + OUTCOME_BARS
    for line, (day, bar) in zip(lines, history.iterrows(), strict=False):
        date, *numbers = line.split(",")
        assert date == str(day)[:10]
        assert list(map(float, numbers)) == pytest.approx(list(bar), abs=1e-4)
