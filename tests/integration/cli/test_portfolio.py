"""`kronosbot portfolio` as an operator runs it."""

import json
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.support.command_line import kronosbot
from tests.support.market import Market, ScriptedBot
from tradingbot.persistence.engine import get_db_session
from tradingbot.persistence.models import BotRow

THURSDAY = datetime(2024, 5, 16)


@pytest.fixture
def traded(tmp_path: Path, database: str) -> str:
    """A database: a bot bought AAPL at 100 and IBM at 50, and sold IBM at 60 a day later."""
    market = Market(tmp_path / "candles")
    options: dict[str, Any] = {"name": "my-bot", "tickers": ["AAPL", "IBM"], "fill": "close"}
    market.write("AAPL", [98.0, 99.0, 101.0, 100.0])
    market.write("IBM", [52.0, 51.0, 51.0, 50.0])
    market.bot(ScriptedBot, database, answers={"AAPL": 1, "IBM": 1}, **options).run()
    market.write("AAPL", [98.0, 99.0, 101.0, 100.0, 110.0], today=THURSDAY)
    market.write("IBM", [52.0, 51.0, 51.0, 50.0, 60.0], today=THURSDAY)
    options["data"] = market.data()
    market.bot(ScriptedBot, database, answers={"IBM": -1}, **options).run()
    return database


def test_portfolio_shows_holdings_values_trades_and_realised_profit(
    traded: str, tmp_path: Path
) -> None:
    run = partial(kronosbot, folder=tmp_path, DATABASE_URL=traded)
    shown = run("portfolio")
    assert (shown.returncode, shown.stderr) == (0, "")
    lines = [line.split() for line in shown.stdout.splitlines()]
    assert ["AAPL", "49.975", "110.00", "2024-05-16", "5,497.25", "5,000.00", "+497.25"] in lines
    assert ["2024-05-16", "5,994.00", "11,491.25", "+15.0%"] in lines
    assert next(line for line in lines if line[:1] == ["Realised"])[1] == "+994.00"

    document = json.loads(run("portfolio", "--json", "--bot", "my-bot").stdout)
    [bot] = document["bots"]
    assert (document["exit_code"], document["error"], bot["name"]) == (0, None, "my-bot")
    assert [trade["side"] for trade in bot["trades"]] == ["buy", "buy", "sell"]
    assert [value["at"] for value in bot["values"]] == [
        "2024-05-15T00:00:00", "2024-05-16T00:00:00",
    ]  # fmt: skip
    assert bot["realised"] == pytest.approx(994.00, abs=0.01)
    assert bot["value"] == pytest.approx(bot["values"][-1]["value"])


def test_a_holding_can_be_closed_and_set_manually(traded: str, tmp_path: Path) -> None:
    run = partial(kronosbot, folder=tmp_path, DATABASE_URL=traded)
    changed = run("portfolio", "set", "my-bot", "aapl", "50")
    assert changed.stdout == "my-bot holds 50 AAPL; before: 49.975\n"
    closed = run("portfolio", "close", "my-bot", "AAPL", "--price", "54.2")
    assert closed.stdout == "Sold 50 AAPL at 54.2: 2,710.00 USD\n"
    with get_db_session(traded) as session:
        owned = dict(session.get_one(BotRow, "my-bot").portfolio)
    assert owned == {"USD": pytest.approx(5_994.00 + 2_710, abs=0.01), "AAPL": 0, "IBM": 0}
    again = run("portfolio", "close", "my-bot", "AAPL", "--price", "54.2")
    assert (again.returncode, again.stderr) == (1, "Error: my-bot holds no AAPL; it has USD\n")
    unknown = run("portfolio", "--bot", "other")
    assert unknown.returncode == 1
    assert "has no bot other; it has my-bot" in unknown.stderr


def test_without_a_database_portfolio_says_so_and_creates_none(tmp_path: Path) -> None:
    done = kronosbot("portfolio", folder=tmp_path)
    assert done.returncode == 1
    assert "there is no sqlite:///kronos.db yet" in done.stderr
    assert not (tmp_path / "kronos.db").exists()
