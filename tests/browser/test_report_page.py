"""The report file in a real Chromium, at phone and desktop sizes."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.support.records import Past
from tradingbot.persistence.engine import dispose_engines
from tradingbot.reports.page import packed_plotly, render_page
from tradingbot.reports.record import read_record
from tradingbot.settings import Settings

expect.set_options(timeout=60_000)  # a busy machine takes seconds to load plotly

PHONE, DESK = {"width": 390, "height": 844}, {"width": 1280, "height": 900}
TICKERS = [f"T{number:02}" for number in range(12)]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of twelve tickers."""
    return report(tmp_path_factory.mktemp("report"), TICKERS)


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of two tickers, for tests that draw all charts repeatedly."""
    return report(tmp_path_factory.mktemp("short"), TICKERS[:2])


def report(folder: Path, tickers: list[str]) -> Path:
    """A report of thirty nights with widened bands."""
    url = f"sqlite:///{folder / 'kronos.db'}"
    Past(tickers, sessions=30, width=0.6, calibrated=1.0).store(url)
    record = read_record(url, Settings(), source=None, symbols=())
    dispose_engines()
    (folder / "report.html").write_text(render_page(record, packed_plotly()), encoding="utf-8")
    return folder / "report.html"


@contextmanager
def opening(browser: Browser, file: Path, size: dict[str, int]) -> Iterator[Page]:
    """Open the page. Requests other than for the file, and errors, fail the test."""
    wrong: list[str] = []
    context = browser.new_context(viewport=size, has_touch=size is PHONE)
    context.set_default_timeout(60_000)
    context.on("request", lambda asked: wrong.append(asked.url))
    context.on("weberror", lambda failed: wrong.append(str(failed.error)))
    context.on("console", lambda message: wrong.append(message.text))
    page = context.new_page()
    page.goto(file.as_uri())
    yield page
    context.close()
    assert wrong == [file.as_uri()]


@pytest.fixture(scope="module", params=[PHONE, DESK], ids=["phone", "desk"])
def opened(request: pytest.FixtureRequest, browser: Browser, file: Path) -> Iterator[Page]:
    """The open page, for tests that only scroll; an opening takes seconds of CPU time."""
    with opening(browser, file, request.param) as page:
        yield page


def drawn(page: Page) -> list[str]:
    found: list[str] = page.evaluate(
        "[...document.querySelectorAll('.chart')].filter(one => one.querySelector('.main-svg'))"
        ".map(one => one.dataset.chart + (one.dataset.ticker ?? ''))"
    )
    return found


def test_charts_are_drawn_when_they_come_into_view_and_not_before(opened: Page) -> None:
    opened.locator("[data-chart=reliability]").scroll_into_view_if_needed()
    expect(opened.locator("[data-chart=reliability] .main-svg").first).to_be_visible()
    assert "fan11" not in drawn(opened)
    opened.locator("#ticker-11").scroll_into_view_if_needed()
    expect(opened.locator("#ticker-11 .main-svg").first).to_be_visible()
    opened.locator("#ticker-11 [data-chart=past]").scroll_into_view_if_needed()
    expect(opened.locator("#ticker-11 [data-chart=past] .main-svg").first).to_be_visible()
    assert "fan5" not in drawn(opened)
    names = opened.evaluate(
        "document.querySelector('#ticker-11 [data-chart=fan]').data.map(trace => trace.name)"
    )
    assert names == ["80 % band", "50 % band", "median", "candles"]


def test_days_run_from_left_to_right_even_if_candles_are_missing(
    browser: Browser, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path / 'kronos.db'}"
    Past(["AAPL"], sessions=1).store(url, candles=False)
    record = read_record(url, Settings(), source=None, symbols=())
    dispose_engines()
    (tmp_path / "report.html").write_text(render_page(record, packed_plotly()), encoding="utf-8")
    opened = browser.new_page(viewport=PHONE)
    opened.goto((tmp_path / "report.html").as_uri())
    opened.locator("[data-chart=fan]").scroll_into_view_if_needed()
    expect(opened.locator("[data-chart=fan] .main-svg").first).to_be_visible()
    days = opened.evaluate(
        "document.querySelector('[data-chart=fan]')._fullLayout.xaxis._categories"
    )
    assert days == sorted(days)
    assert len(days) == 6
    opened.close()


def test_no_part_of_the_page_is_wider_than_the_screen(opened: Page) -> None:
    width = opened.viewport_size["width"] if opened.viewport_size else 0
    assert opened.evaluate("document.documentElement.scrollWidth") <= width
    expect(opened.locator("[data-chart=reliability] .main-svg").first).to_be_visible()
    assert opened.evaluate("document.documentElement.scrollWidth") <= width
    small = opened.evaluate(
        "[...document.querySelectorAll('p, td, figcaption')].filter(one => one.offsetParent)"
        ".filter(one => parseFloat(getComputedStyle(one).fontSize) < 13).length"
    )
    assert small == 0


def test_the_report_can_be_used_by_keyboard_alone(browser: Browser, file: Path) -> None:
    with opening(browser, file, DESK) as page:
        page.keyboard.press("Tab")
        expect(page.locator(".skip")).to_be_focused()
        page.keyboard.press("Enter")
        assert page.evaluate("location.hash") == "#record"

        head = page.locator("#ranking th", has_text="Ticker").first.locator("button")
        head.focus()
        page.keyboard.press("Enter")
        names = page.locator("#ranking tbody th").all_inner_texts()
        assert names == TICKERS
        page.keyboard.press("Enter")
        assert page.locator("#ranking tbody th").all_inner_texts() == TICKERS[::-1]

        page.get_by_label("Find a ticker").focus()
        page.keyboard.type("t07")
        expect(page.locator("#found")).to_have_text("1 of 12")
        expect(page.locator(".ticker:visible")).to_have_count(1)
        page.keyboard.press("Tab")  # to the next part of the page: the numbers of that ticker
        expect(page.locator("#ticker-7 summary")).to_be_focused()
        page.keyboard.press("Enter")
        expect(page.locator("#ticker-7 details tbody tr")).to_have_count(5)


PAPERS = {  # width and height without margins, in CSS pixels
    "A4, margins of 1 cm": (718, 1047), "Letter, margins of 1 inch": (624, 864),
    "A4, margins of 4 cm": (491, 820), "A4 on its side, margins of 1 cm": (1047, 718),
}  # fmt: skip


BROKEN_WORDS = """() => {
    const broken = [];
    for (const cell of document.querySelectorAll("thead th, tbody td:not(.text)")) {
        const texts = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT);
        while (texts.nextNode()) {
            for (const word of texts.currentNode.data.matchAll(/[^\\s-]+/g)) {
                const range = document.createRange();
                range.setStart(texts.currentNode, word.index);
                range.setEnd(texts.currentNode, word.index + word[0].length);
                if (range.getClientRects().length > 1) broken.push(word[0]);
            }
        }
    }
    return broken;
}"""


def test_no_chart_or_column_is_cut_in_print_at_any_margin(browser: Browser, short: Path) -> None:
    page = browser.new_page(viewport=DESK)
    page.set_default_timeout(60_000)
    page.goto(short.as_uri())
    charts = page.locator(".chart").count()
    for paper, (width, height) in PAPERS.items():
        page.set_viewport_size({"width": width, "height": height})
        page.emulate_media(media="print")
        expect(page.locator("html.paper")).to_have_count(1)
        expect(page.locator(".chart[data-state=drawn]")).to_have_count(charts)
        cut = page.evaluate(
            """width => {
                const box = (one) => one.getBoundingClientRect();
                const within = (inner, outer) =>
                    inner.left >= outer.left - 1 && inner.right <= outer.right + 1 &&
                    inner.top >= outer.top - 1 && inner.bottom <= outer.bottom + 1;
                const all = (selector) => [...document.querySelectorAll(selector)];
                const page = { left: 0, right: width, top: -1e6, bottom: 1e6 };
                return [
                    ...all("p, li, figure, th, td").filter((one) => !within(box(one), page)),
                    ...all(".scroll").filter((one) => one.scrollWidth > one.clientWidth + 1),
                    ...all(".chart").filter((chart) =>
                        [...chart.querySelectorAll(".main-svg, text")].some(
                            (one) => box(one).width > 0 && !within(box(one), box(chart)))),
                ].map((one) => one.outerHTML.slice(0, 80));
            }""",
            width,
        )
        assert cut == [], paper
        assert page.evaluate(BROKEN_WORDS) == [], paper
        assert page.locator("details:not([open])").count() == 0
        page.emulate_media(media="screen")
        expect(page.locator("details[open]")).to_have_count(0)
    page.emulate_media(media="null")
    for size, most in (("A4", 10), ("Letter", 16)):  # two tickers on a page if they fit
        margin = dict.fromkeys(("top", "bottom", "left", "right"), "10mm")
        pdf = page.pdf(format=size, margin=margin)
        assert 0 < len(re.findall(rb"/Type /Page\b", pdf)) <= most
    page.set_viewport_size(DESK)
    drawing = page.locator("[data-chart=reliability] .main-svg").first
    expect(drawing).not_to_have_attribute("viewBox", re.compile("."))
    page.close()


def test_dark_mode_follows_the_readers_preference_and_never_prints(
    browser: Browser, short: Path
) -> None:
    page = browser.new_page(color_scheme="dark", viewport=DESK)
    page.goto(short.as_uri())
    expect(page.locator("[data-chart=pit] .main-svg").first).to_be_visible()

    def colors() -> tuple[str, str]:
        return (
            page.evaluate("getComputedStyle(document.body).backgroundColor"),
            page.evaluate("document.querySelector('[data-chart=pit]').layout.font.color"),
        )

    assert colors() == ("rgb(15, 19, 26)", "#e6e9f0")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert colors() == ("rgb(246, 247, 249)", "#1b2230")
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert colors() == ("rgb(15, 19, 26)", "#e6e9f0")
    page.emulate_media(color_scheme="light")
    assert colors() == ("rgb(246, 247, 249)", "#1b2230")
    page.close()
