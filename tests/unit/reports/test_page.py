"""The content of `kronosbot report` for databases that the tests create."""

import gzip
import json
import re
import tomllib
from dataclasses import replace
from datetime import timedelta
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sqlalchemy import insert, text, update

import tradingbot
from tests.support.records import LAST, NOW, Past
from tradingbot.errors import DatabaseError
from tradingbot.evaluation.event_scoring import score_events
from tradingbot.persistence.engine import get_db_session
from tradingbot.persistence.models import (
    HistoricData,
    KronosEvent,
    KronosForecast,
    KronosScore,
    RunLog,
)
from tradingbot.postprocessing.combination import State
from tradingbot.postprocessing.combined_forecast import Combination
from tradingbot.postprocessing.repository import store_combination
from tradingbot.reports.charts import rounded
from tradingbot.reports.combination_shares import read_shares_by_day
from tradingbot.reports.figures import NOMINAL, Estimate, compute_figures
from tradingbot.reports.page import STATIC, TEMPLATES, packed_plotly, render_page
from tradingbot.reports.record import Record, read_record
from tradingbot.reports.text import headline, interval_text
from tradingbot.runtime.clock import utcnow
from tradingbot.settings import Settings

LEARNT = State((0.0,) * 4, sessions=40, forecasts=1234, until=np.datetime64(LAST, "s"))
PACKAGE = Path(tradingbot.__file__).parent


@pytest.fixture(autouse=True)
def after_the_close(monkeypatch: pytest.MonkeyPatch) -> None:
    from tradingbot.data.service import DataService

    monkeypatch.setattr(DataService, "now", lambda self: NOW)


def record_of(url: str, *symbols: str, active: tuple[str, ...] = ("AAPL",)) -> Record:
    return read_record(url, Settings(extra_symbols=active), source=None, symbols=symbols)


def shown(url: str, *symbols: str) -> "ParsedPage":
    return ParsedPage.of(render_page(record_of(url, *symbols), b"no script"))


class ParsedPage(HTMLParser):
    """The text of a page by section id, and the numbers of its charts."""

    def __init__(self) -> None:
        super().__init__()
        self.text_of: dict[str, str] = {}
        self.charts: list[tuple[str, str]] = []
        self._within = "top"

    @classmethod
    def of(cls, html: str) -> "ParsedPage":
        shown = cls()
        shown.feed(html)
        return shown

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag in ("section", "p", "script", "ul") and (
            name := found.get("id") or found.get("class")
        ):
            self._within = name
        if kind := found.get("data-chart"):
            self.charts.append((kind, found.get("data-ticker") or ""))

    def handle_data(self, data: str) -> None:
        self.text_of[self._within] = self.text_of.get(self._within, "") + data + " "

    @property
    def everything(self) -> str:
        return " ".join(" ".join(self.text_of.values()).split(" "))

    @property
    def data(self) -> Any:
        return json.loads(self.text_of["data"])


# the record -------------------------------------------------------------------------------


def test_too_narrow_bands_show_in_every_figure(sqlite_url: str) -> None:
    Past(["AAPL", "GOOG", "IBM"], sessions=80, width=0.25).store(sqlite_url)
    figures = compute_figures(record_of(sqlite_url))
    given = figures.charts["reliability"]["given"]
    # of a normal distribution: 1.28 standard deviations / 4 on either side
    assert given["value"][NOMINAL.index(0.8)] == pytest.approx(0.25, abs=0.06)
    assert all(held < nominal for held, nominal in zip(given["high"], NOMINAL, strict=True))
    pit = figures.charts["pit"]["given"]["value"]
    assert sum(pit) == pytest.approx(1)
    assert min(pit[0], pit[-1]) > 3 * 0.05
    assert figures.skill is not None
    assert figures.skill.high is not None
    assert figures.skill.high < 0
    assert headline(figures).startswith("Worse than a random walk: by ")


def test_a_model_like_a_random_walk_is_reported_as_no_better(sqlite_url: str) -> None:
    Past(["AAPL", "GOOG"], sessions=80).store(sqlite_url)
    figures = compute_figures(record_of(sqlite_url))
    assert figures.skill is not None
    assert figures.skill.low is not None
    assert figures.skill.low < figures.skill.value < 0.05
    given = figures.charts["reliability"]["given"]
    nominal = np.array(NOMINAL)
    assert (np.array(given["low"]) < nominal).all()
    assert (nominal < np.array(given["high"])).all()
    assert figures.charts["reliability"]["raw"] is None


def test_an_interval_never_starts_at_minus_zero() -> None:
    assert interval_text(Estimate(0.01, -0.004, 0.02)) == "0 to 2"
    assert interval_text(Estimate(0.01, -0.006, 0.02)) == "\N{MINUS SIGN}1 to 2"


def test_calibrated_bands_are_shown_next_to_the_raw_ones(sqlite_url: str) -> None:
    Past(["AAPL", "GOOG"], sessions=60, width=0.5, calibrated=1.0).store(sqlite_url)
    found = record_of(sqlite_url)
    charts = compute_figures(found).charts
    eighty = NOMINAL.index(0.8)
    assert charts["reliability"]["given"]["value"][eighty] == pytest.approx(0.8, abs=0.07)
    assert charts["reliability"]["raw"]["value"][eighty] < 0.6
    assert charts["skill"]["given"]["value"][0] > charts["skill"]["raw"]["value"][0]
    assert charts["pit"]["raw"]["value"][0] > charts["pit"]["given"]["value"][0]
    output = ParsedPage.of(render_page(found, b"")).text_of
    assert "bands calibrated: conformal" in output["facts"]
    [aapl, _] = found.tickers  # the fan shows the bands that the bots got
    width = np.log(aapl.fan.quantiles[-1, 0] / aapl.fan.quantiles[0, 0])
    assert width == pytest.approx(2 * 1.2816 * 0.012, rel=1e-3)


# little or no data ------------------------------------------------------------------------


def test_after_the_first_run_there_are_charts_but_no_scores(database: str) -> None:
    Past(["AAPL", "GOOG"], sessions=1).store(database)
    found = shown(database)
    assert found.text_of["headline"].startswith("No record yet: none of these forecasts has an")
    assert "for Thu 2024-05-16" in found.text_of["top"] + found.text_of["headline"]
    assert found.charts == [("fan", "0"), ("fan", "1")]
    assert "By name, for want of a record" in found.text_of["ranking"]
    assert "no forecast has an outcome yet" in found.text_of["tickers"] + found.text_of["find"]
    assert found.data["tickers"][0]["past"] == []
    assert "skill" not in found.data
    # 2 tickers, 5 steps: 2 + 4 + 6 + 8 + 10 outcomes; forthcoming ones are mentioned once
    assert "30 are needed, which takes 5 more sessions" in found.text_of["record"]
    assert "Do the bands hold?" in found.text_of["coming"]
    assert "No record yet" not in found.text_of["record"]


def test_too_few_outcomes_are_counted_but_give_no_figures(sqlite_url: str) -> None:
    Past(["AAPL"], sessions=6).store(sqlite_url)
    found = shown(sqlite_url)
    # of 6 nights with 5 steps, 5 + 4 + 3 + 2 + 1 have an outcome
    assert found.text_of["headline"].startswith("Too early to judge: 15 forecasts have an outcome")
    assert found.charts == [("fan", "0"), ("past", "0")]
    assert "Too early" not in found.text_of["record"]
    assert "takes 3 more sessions" in found.text_of["record"]  # 5 outcomes each
    assert "15, too few" in found.text_of["ranking"]


def test_few_sessions_give_figures_without_an_interval(sqlite_url: str) -> None:
    Past(["AAPL", "GOOG", "IBM"], sessions=12).store(sqlite_url)
    figures = compute_figures(record_of(sqlite_url))
    assert figures.skill is not None
    assert figures.skill.low is None
    assert figures.charts["pit"]["given"]["low"] is None
    assert "too few to tell skill from luck" in headline(figures)


def test_a_figure_that_no_single_step_has_enough_forecasts_for_is_left_out(
    sqlite_url: str,
) -> None:
    Past(["AAPL"], sessions=12).store(sqlite_url)  # 11 + 10 + 9 + 8 + 7 have an outcome
    found = shown(sqlite_url)
    assert found.charts[:2] == [("reliability", ""), ("pit", "")]
    assert "skill" not in found.data
    assert "11, too few" in found.text_of["record"]


def test_constant_closes_give_no_figure_and_no_error(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.support.records.VOLATILITY", 0.0)
    Past(["AAPL"], sessions=40).store(sqlite_url)
    found = shown(sqlite_url)
    assert found.text_of["headline"].startswith("No comparison with a random walk: too few of 185")
    assert "no statistics: the closes never moved" in found.text_of["tickers"]
    assert "skill" not in found.data


def test_without_candles_the_forecast_is_shown_alone_with_a_note(sqlite_url: str) -> None:
    Past(["AAPL"], sessions=3).store(sqlite_url, candles=False)
    found = shown(sqlite_url)
    assert "no candles: the database has none" in found.text_of["quiet"]
    [ticker] = found.data["tickers"]
    assert ticker["ohlc"] == [[], [], [], []]
    assert len(ticker["fan"]["days"]) == 5


@pytest.mark.no_tables
def test_a_report_without_data_says_how_to_get_data(database: str, tmp_path: Path) -> None:
    with pytest.raises(DatabaseError, match=r"there is no .* yet: `kronosbot run` fills it"):
        record_of(f"sqlite:///{tmp_path / 'nowhere.db'}")
    with pytest.raises(
        DatabaseError, match=r"(is empty|there is no .* yet): `kronosbot run` fills it"
    ):
        record_of(database)
    with get_db_session(database):
        pass
    with pytest.raises(DatabaseError, match=r"has no daily forecast: run `kronosbot run`"):
        record_of(database)
    Past(["AAPL"], sessions=1).store(database)
    with pytest.raises(DatabaseError, match=r"has no forecast of XYZ; it has some of AAPL"):
        record_of(database, "XYZ")
    with get_db_session(database) as session:
        session.execute(text("UPDATE kronos_schema_version SET version_num = '0002'"))
    with pytest.raises(DatabaseError, match="the next `kronosbot run` upgrades it"):
        record_of(database)


def test_the_symbols_option_selects_tickers_and_names_those_without_a_forecast(
    sqlite_url: str,
) -> None:
    Past(["AAPL", "GOOG", "IBM"], sessions=2).store(sqlite_url)
    found = record_of(sqlite_url, "IBM", "XYZ")
    assert [ticker.symbol for ticker in found.tickers] == ["IBM"]
    assert "No forecast of XYZ." in found.notes


def test_stale_tickers_and_failures_are_at_the_top(sqlite_url: str) -> None:
    Past(["AAPL"], sessions=2).store(sqlite_url)
    with get_db_session(sqlite_url) as session:
        session.execute(
            text(
                "UPDATE run_logs SET status = 'failed', exit_code = 1, message = 'the Hub is gone'"
            )
        )
    notes = ParsedPage.of(
        render_page(record_of(sqlite_url, active=("AAPL", "GLD")), b"")
    ).text_of["notes"]  # fmt: skip
    assert "ended with 1: the Hub is gone." in notes
    assert "GLD is not up to date: no forecast." in notes


def test_the_facts_state_how_far_reconstructed_last_closes_are_off(sqlite_url: str) -> None:
    Past(["AAPL"], sessions=5, revision="f4e68697d9d5aed55cef+anchored").store(sqlite_url)
    assert "read" not in shown(sqlite_url).text_of["facts"]
    with get_db_session(sqlite_url) as session:
        for age, model, error in ((3, "mini", 0.02), (2, "mini", 0.0039), (1, "other", 0.05)):
            details = {"model": model, "source": "yahoo", "reconstruction_error": error}
            session.add(
                RunLog(
                    name="kronosbot", started_at=NOW - timedelta(hours=age), finished_at=NOW,
                    status="ok", exit_code=0, details=details,
                )
            )  # fmt: skip
    facts = shown(sqlite_url).text_of["facts"]
    assert "mini revision f4e68697d9d5+anchored, " in facts
    assert "its tokenizer's median error on the last close is 0.39\u00a0%" in facts


def test_a_new_revision_starts_a_separate_record(sqlite_url: str) -> None:
    Past(["AAPL"], sessions=60, revision="old").store(sqlite_url)
    with get_db_session(sqlite_url) as session:
        session.execute(
            text("UPDATE kronos_forecasts SET model_revision = 'new' WHERE as_of = :last"),
            {"last": f"{LAST:%Y-%m-%d %H:%M:%S}"},
        )
        session.add(
            KronosScore(
                model_name="mini", model_revision="old", interval="1d", symbol="*", step=0,
                last_sessions=0, n=290, sessions=59, first_target=LAST - timedelta(days=80),
                last_target=LAST, mase=1.03, scored_at=utcnow(),
            )
        )  # fmt: skip
    found = shown(sqlite_url)
    assert found.text_of["headline"].startswith("No record yet")
    assert "mini old" in found.everything
    assert "1.03" in found.everything


def stored_score(forecast: str, skill: float, model: str = "mini") -> KronosScore:
    return KronosScore(
        model_name=model, model_revision="r1", interval="1d", symbol="*", step=0, last_sessions=0,
        forecast=forecast, n=290, sessions=59, first_target=LAST - timedelta(days=80),
        last_target=LAST, mase=1.03, crps_skill=skill, ewma_skill=skill - 0.01, coverage_80=0.81,
        skill_low=skill - 0.014, skill_high=skill + 0.014, scored_at=utcnow(),
    )  # fmt: skip


def rows_of(html: str, table: str) -> list[list[str]]:
    """Return the cells of a table's rows; `label` names the table."""
    found = html.split(f'aria-label="{table}"')[1].split("</table>")[0]
    cells = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in found.split("<tr>")]
    return [[cell.replace("\N{NO-BREAK SPACE}", " ") for cell in row] for row in cells if row]


def test_the_parts_of_the_served_forecast_are_compared_side_by_side(database: str) -> None:
    Past(["AAPL"], sessions=40).store(database)
    with get_db_session(database) as session:
        session.add(stored_score("served", 0.01))
    parts = "Records of the parts of the served forecast"
    assert parts not in render_page(record_of(database), b"")  # only Kronos was served
    with get_db_session(database) as session:
        session.add_all(
            (
                stored_score("combined", 0.0213),
                stored_score("calibrated", -0.0311),
                stored_score("raw", -0.0684),
                stored_score("served", 0.005, model="other"),
                stored_score("raw", -0.011, model="other"),
            )
        )
    html = render_page(record_of(database), b"")
    minus = "\N{MINUS SIGN}"
    assert [row[:5] for row in rows_of(html, parts)] == [
        ["raw", "290", f"{minus}6.8 % ({minus}8.2 to {minus}5.4)", f"{minus}7.8 %", "\N{EN DASH}"],
        [
            "calibrated",
            "290",
            f"{minus}3.1 % ({minus}4.5 to {minus}1.7)",
            f"{minus}4.1 %",
            "\N{EN DASH}",
        ],
        ["combined", "290", "2.1 % (0.7 to 3.5)", "1.1 %", "\N{EN DASH}"],
        ["served", "290", f"1.0 % ({minus}0.4 to 2.4)", "0.0 %", "\N{EN DASH}"],
    ]
    others = rows_of(html, "Records of other models")
    assert [row[:2] for row in others] == [["other r1", "raw"], ["other r1", "served"]]


def test_the_shares_of_served_forecasts_are_drawn_by_the_day(database: str) -> None:
    Past(["AAPL", "GOOG"], sessions=40).store(database)
    assert "shares" not in shown(database).data
    days = sorted({row["as_of"] for row in Past(["AAPL"], sessions=3).forecasts("AAPL")})
    with get_db_session(database) as session:
        for at, day in enumerate(days):
            for symbol, kronos in (("AAPL", 0.1 * at), ("GOOG", 0.3)):
                session.execute(
                    update(KronosForecast)
                    .where(KronosForecast.symbol == symbol, KronosForecast.as_of == day)
                    .values(shares={"kronos": kronos, "ewma walk": 1 - kronos})
                )
        store_combination(session, Combination(("mini", "r1", "1d"), {("*", 1): LEARNT}))
    found = shown(database)
    assert ("shares", "") in found.charts
    assert found.data["shares"]["days"] == [f"{day:%Y-%m-%d}" for day in days]
    kronos, walk, ewma, by_range = found.data["shares"]["values"]
    assert kronos == pytest.approx([0.15, 0.2, 0.25])
    assert ewma == pytest.approx([0.85, 0.8, 0.75])
    assert walk == by_range == [0, 0, 0]


def test_the_shares_of_the_combined_forecast_have_their_table(sqlite_url: str) -> None:
    Past(["AAPL", "GOOG"], sessions=40).store(sqlite_url)
    assert "Kronos alone" in ParsedPage.of(render_page(record_of(sqlite_url), b"")).everything
    states = {("*", step): replace(LEARNT, gains=(0.0, float(step), 0.0, 0.0)) for step in (1, 2)}
    with get_db_session(sqlite_url) as session:
        store_combination(session, Combination(("mini", "r1", "1d"), states))
    found = record_of(sqlite_url)
    assert [share.step for share in found.shares] == [1, 2]
    assert found.shares[1].shares[1] > found.shares[0].shares[1] > 0.25
    output = ParsedPage.of(render_page(found, b"")).everything
    for words in ("What the combined forecast is made of", "1,234 forecasts, 40 sessions", "48 %"):
        assert words.replace(" %", "\N{NO-BREAK SPACE}%") in output


@pytest.mark.parametrize("damaged", [[], [1], "all", {"kronos": "much"}, {"kronos": None}, {}])
def test_invalid_weights_are_left_out_of_the_chart(sqlite_url: str, damaged: Any) -> None:
    Past(["AAPL"], sessions=2, revision="r1+anchored").store(sqlite_url)
    with get_db_session(sqlite_url) as session:
        every = update(KronosForecast)
        session.execute(every.values(shares={"kronos": 0.2, "ewma walk": 0.8}))
        session.execute(every.where(KronosForecast.as_of == LAST).values(shares=damaged))
        found = read_shares_by_day(session, "mini", "r1+anchored", "1d", LAST - timedelta(9))
    assert [shares[0] for shares in found.shares] == pytest.approx([0.2])


def test_chances_of_events_are_next_to_what_happened(sqlite_url: str) -> None:
    past = Past(["AAPL", "GOOG"], sessions=40, horizon=2).store(sqlite_url)
    assert "Do events happen" not in shown(sqlite_url).everything
    key = ("symbol", "interval", "model_name", "as_of", "target_date", "model_revision",
           "prediction_made_at", "horizon_days", "last_close")  # fmt: skip
    asked = [
        {name: row[name] for name in key}
        | {"event": event, "probability": chance, "low": 0.1, "high": 0.9}
        for symbol in past.symbols
        for row in past.forecasts(symbol)
        for event, chance in (("close above 0%", 0.52), ("touch +9%", 0.01 * row["horizon_days"]))
    ]
    with get_db_session(sqlite_url) as session:
        session.execute(insert(KronosEvent), asked)
    candles = {symbol: pd.DataFrame(past.candles(symbol)).set_index("timestamp") for symbol in
               past.symbols}  # fmt: skip
    score_events(partial(get_db_session, sqlite_url), lambda symbol, *_: candles[symbol])
    output = shown(sqlite_url).everything.replace("\N{NO-BREAK SPACE}", " ")
    record = output[
        output.index("Do events happen") : output.index("Tickers", output.index("Do events"))
    ]
    for words in ("close above 0%", "touch +9%", "50 to 60 %", "0 to 10 %", "52 %"):
        assert words in record
    ticker = output[output.index("Event, by the end of") :]
    assert f"{LAST + timedelta(days=2):%Y-%m-%d}" in ticker
    assert re.search(r"touch \+9%\s+1 %\s+2 %", ticker)


# the charts of a ticker -------------------------------------------------------------------


def test_prices_have_todays_scale_after_a_split(sqlite_url: str) -> None:
    Past(["AAPL"], sessions=30).store(sqlite_url)
    before = record_of(sqlite_url).tickers[0]
    with get_db_session(sqlite_url) as session:
        session.execute(
            update(HistoricData).values(
                {name: getattr(HistoricData, name) / 4 for name in ("open", "high", "low", "close")}
            )
        )
    after = record_of(sqlite_url).tickers[0]
    assert after.fan.last_close == pytest.approx(before.fan.last_close / 4)
    assert after.fan.quantiles == pytest.approx(before.fan.quantiles / 4)
    for one, other in zip(after.past, before.past, strict=True):
        np.testing.assert_allclose(one.quantiles, other.quantiles / 4)


def test_earlier_forecasts_are_drawn_at_their_target_session(sqlite_url: str) -> None:
    past = Past(["AAPL"], sessions=10).store(sqlite_url)
    [found] = record_of(sqlite_url).tickers
    assert [forecast.step for forecast in found.past] == [1, 5]
    [one, five] = [
        forecast.quantiles[2] for forecast in found.past
    ]  # each median is the previous close
    closes = [bar["close"] for bar in past.candles("AAPL")]
    assert one[-1] == pytest.approx(closes[-2])
    assert five[-1] == pytest.approx(closes[-6])
    # ten nights: the first forecasts are nine and five sessions old
    assert np.isfinite(one).sum() == 9
    assert np.isfinite(five).sum() == 5


def test_the_page_contains_dates_once_for_all_tickers(sqlite_url: str) -> None:
    Past(["AAPL", "GOOG", "IBM"], sessions=5).store(sqlite_url)
    data = shown(sqlite_url).data
    assert len(data["calendars"]) == 1
    assert [ticker["calendar"] for ticker in data["tickers"]] == [0, 0, 0]
    assert rounded([1234567.89, 0.00012345678, np.nan]) == [1234570.0, 0.000123457, None]


# the file ---------------------------------------------------------------------------------


def test_a_ticker_cannot_insert_html_into_the_page(sqlite_url: str) -> None:
    name = "A</script><img src=x>"
    Past([name], sessions=2).store(sqlite_url)
    html = render_page(record_of(sqlite_url), b"")
    assert "<img" not in html
    assert html.count("</script>") == 3


@pytest.mark.slow
def test_the_page_contains_no_web_address(sqlite_url: str) -> None:
    Past(["AAPL"], sessions=2).store(sqlite_url)
    html = render_page(record_of(sqlite_url), packed_plotly())
    assert re.findall(r"\w+://", html) == []
    assert re.findall(r"\b(?:src|href)=\"(?!#)", html) == []


def test_plotlys_script_comes_from_the_static_folder_or_its_package(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert not (STATIC / "plotly.min.js.gz").exists()  # only the image contains it
    assert b"plotly.js" in gzip.decompress(packed_plotly())[:200]
    (tmp_path / "plotly.min.js.gz").write_bytes(b"packed")
    monkeypatch.setattr("tradingbot.reports.page.STATIC", tmp_path)
    assert packed_plotly() == b"packed"


def test_the_files_of_the_page_are_installed_with_the_package() -> None:
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = project["tool"]["setuptools"]["package-data"]["tradingbot"]
    packaged = {file for pattern in patterns for file in PACKAGE.glob(pattern)}
    assert {*TEMPLATES.iterdir(), STATIC / "report.css", STATIC / "report.js"} <= packaged
