"""The examples: those of the specification unchanged, our own as a new user runs them."""

import os
import runpy
import warnings
from collections import Counter
from contextlib import nullcontext
from datetime import datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from tests.support import ROOT, commands
from tests.support.market import Market, rises_and_falls
from tests.support.openai_server import openai_server, text_answer, tool_calls
from tradingbot.persistence import models as tables
from tradingbot.persistence.engine import get_db_session
from tradingbot.persistence.models import BotRow

SPECIFIED = ROOT / "tests" / "data" / "spec_examples"
EVENING = datetime(2024, 5, 15, 22, 30, 12, 345678)  # a Wednesday; Thursday is a session


class Clock(datetime):
    """A clock that shows the evening of the candles."""

    @classmethod
    def utcnow(cls) -> datetime:
        return EVENING


@pytest.fixture
def market(
    tmp_path: Path, database: str, space_url: str, monkeypatch: pytest.MonkeyPatch
) -> Market:
    """Candles of SPY and QQQ up to the examples' Wednesday, and an empty database."""
    market = Market(tmp_path / "candles", today=datetime(2024, 5, 15))
    for symbol, price in (("SPY", 500.0), ("QQQ", 400.0)):
        market.write(symbol, [price * (1 + (i * 7 % 11) / 500) for i in range(60)])
    monkeypatch.setenv("KRONOS_DATA_SOURCE", market.source)
    monkeypatch.setenv("DATABASE_URL", database)
    monkeypatch.setenv("KRONOS_SPACE_URL", space_url)
    monkeypatch.setenv("KRONOS_SAMPLES", "4")
    return market


def specified(name: str) -> dict[str, Any]:
    return runpy.run_path(str(SPECIFIED / name))


def forecast_all() -> None:
    """Run the real nightly job."""
    commands.run("tradingbot.kronosbot", cwd=Path.cwd(), env=os.environ).check_returncode()


def test_the_example_of_a_direct_call_prints_a_forecast(
    market: Market, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = specified("direct_call.py")["pred"]
    assert [f"{day:%a %d}" for day in frame["target_date"]] == [
        "Thu 16", "Fri 17", "Mon 20", "Tue 21", "Wed 22",
    ]  # fmt: skip
    assert "target_date" in capsys.readouterr().out


def test_the_example_query_finds_tomorrows_row_after_the_job(
    market: Market, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tables.datetime is datetime  # imported before the clock is replaced
    with monkeypatch.context() as evening:
        evening.setattr("datetime.datetime", Clock)
        specified("database_query.py")
        assert capsys.readouterr().out == "", "nothing is stored yet"
    forecast_all()
    with monkeypatch.context() as evening:
        evening.setattr("datetime.datetime", Clock)
        row = specified("database_query.py")["pred"]
    assert (row.symbol, row.target_date, row.horizon_days) == ("SPY", datetime(2024, 5, 16), 1)
    assert capsys.readouterr().out == f"SPY predicted close: {row.predicted_close}\n"


def test_the_bot_of_the_example_runs(market: Market, database: str) -> None:
    kind = specified("bot.py")["MyBot"]
    done = kind("my-bot", tickers=["SPY", "QQQ"]).run()
    assert [(d.symbol, d.answer) for d in done.decisions] == [("SPY", 0), ("QQQ", 0)]
    with get_db_session(database) as session:
        assert session.get_one(BotRow, "my-bot").portfolio == {"USD": 10_000, "SPY": 0, "QQQ": 0}


def test_the_agent_of_the_example_asks_for_a_forecast_and_decides(
    market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = (
        tool_calls(("kronos_forecast", {"symbol": "QQQ", "horizon": 5})),
        text_answer("Do not buy."),
    )
    with openai_server(*script) as (url, asked):
        monkeypatch.setenv("OPENAI_BASE_URL", url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
        monkeypatch.setenv("KRONOS_AI_MODEL", "some/model")
        assert specified("ai_tools.py")["decision"] == "Do not buy."
    answer = asked.bodies[1]["messages"][-1]
    assert answer["role"] == "tool"
    assert answer["content"].startswith("Kronos forecast of QQQ, 5 trading days ahead.")


# our own ----------------------------------------------------------------------------------


def run(name: str, folder: Path) -> str:
    env = {**os.environ, "KRONOS_MODEL": "kronos-nano", "KRONOS_THREADS": "1"}
    done = commands.run(str(ROOT / "examples" / name), cwd=folder, env=env)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_forecast_bot_decides_trades_and_shows_its_portfolio(tmp_path: Path) -> None:
    lines = run("forecast_bot.py", tmp_path).splitlines()
    assert lines[0] == "forecast-bot"
    for line, symbol in zip(lines[3:6], ("AAPL", "GOOG", "IBM"), strict=True):
        assert line.startswith(symbol)
        assert ": in 5 days " in line
    assert lines[-1].startswith("Portfolio  USD ")
    assert (tmp_path / "kronos.db").exists()


def test_the_strategy_of_backtesting_py_trades_on_the_stored_forecasts(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", sqlite_url)
    monkeypatch.setenv("KRONOS_DATA_SOURCE", "sample")
    monkeypatch.setattr("sys.argv", ["backtesting_py.py", "AAPL"])
    bars = rises_and_falls(sqlite_url)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # from its dependencies
        test = runpy.run_path(str(ROOT / "examples" / "backtesting_py.py"))["test"]
        trades = test.run()["_trades"]
    assert "# Trades" in capsys.readouterr().out
    assert trades["EntryTime"].tolist() == [bars.index[-39]], "the last one is still open"
    assert trades["EntryPrice"].iloc[0] == pytest.approx(bars["open"].iloc[-39])
    assert trades["ExitTime"].iloc[0] == bars.index[-29]


def test_the_agent_reads_two_forecasts(tmp_path: Path) -> None:
    answer = run("agent.py", tmp_path)
    for symbol in ("AAPL", "IBM"):
        assert f"Kronos forecast of {symbol}, 3 trading days ahead." in answer


def test_the_forecast_chart_is_drawn_with_its_outcome(tmp_path: Path) -> None:
    printed = run("forecast_fan.py", tmp_path)
    assert "of 10 closes lie inside their 10-90 % range" in printed
    page = (tmp_path / "forecast_fan.html").read_text()
    assert "what happened" in page
    assert "5% to 95%" in page
    assert "Plotly.newPlot" in page


def test_the_picture_of_the_documentation_is_drawn_by_its_script(
    tmp_path: Path, space_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tradingbot.space.local.local_space", lambda: nullcontext(space_url))
    script = runpy.run_path(str(ROOT / "examples" / "forecast_picture.py"))
    script["main"](str(tmp_path / "drawn.svg"))
    drawn, shown = map(parsed, (tmp_path / "drawn.svg", ROOT / "docs/images/forecast.svg"))
    assert drawn == shown, "run the script again"
    assert Counter(tag for tag, _ in drawn) >= Counter(polygon=3, circle=15, path=45)
    assert (
        "text",
        "GOOG: 256 paths of kronos-nano, drawn from the candles up to 07 Feb 2013",
    ) in drawn


def parsed(picture: Path) -> list[tuple[str, str]]:
    """Parse a file, except positions and prices: other processors may round them differently."""
    found = [(item.tag.rpartition("}")[2], (item.text or "").strip()) for item in
             ElementTree.parse(picture).iter()]  # fmt: skip
    return [(tag, text) for tag, text in found if not text.isdigit()]
