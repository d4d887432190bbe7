"""Damaged rows of the bots' tables affect only themselves and are reported in one line."""

import logging
from pathlib import Path

import pytest
from sqlalchemy import text
from typer.testing import CliRunner

from tests.support.market import Market, ScriptedBot
from tradingbot.bots.repository import read_portfolio
from tradingbot.bots.statement import read_statements
from tradingbot.bots.universe import active_symbols
from tradingbot.cli.main import app
from tradingbot.errors import BotError
from tradingbot.persistence.engine import get_db_session

BOTH = {"AAPL": 1, "IBM": 1}
NEITHER = {"AAPL": -1, "IBM": -1}


@pytest.fixture
def market(tmp_path: Path, sqlite_url: str) -> Market:
    """A market in which the bots `b` and `other` hold AAPL and IBM."""
    market = Market(tmp_path / "candles")
    market.write("AAPL", [98.0, 99.0, 101.0, 100.0])
    market.write("IBM", [52.0, 51.0, 50.0])
    for name in ("b", "other"):
        market.bot(ScriptedBot, sqlite_url, name=name, tickers=["AAPL", "IBM"], answers=BOTH).run()
    market.today = market.today.replace(day=16)
    market.write("AAPL", [99.0, 101.0, 100.0, 110.0])
    market.write("IBM", [51.0, 50.0, 55.0])
    return market


def damage(url: str, change: str) -> None:
    with get_db_session(url) as session:
        session.execute(text(change))


def sells_all(market: Market, url: str) -> list[str]:
    bot = market.bot(ScriptedBot, url, tickers=["AAPL", "IBM"], answers=NEITHER)
    return [fill.symbol for fill in bot.run().fills]


@pytest.mark.parametrize(
    "change",
    [
        "as_of = 'yesterday'",
        "as_of = 5",
        "as_of = '2024-02-30 00:00:00'",
        "as_of = '2024-05-15 00:00:00Z'",
        "interval = x'ff'",
        "quantity = 'much'",
        "quantity = -1",
        "closes = ''",
        "closes = '[]'",
        "closes = '\"text\"'",
        "closes = '{\"yesterday\": 5}'",
        "closes = '{\"2024-05-15T00:00:00\": NaN}'",
        'closes = \'{"2024-05-15T00:00:00": "x"}\'',
        "closes = '{\"2024-05-15T00:00:00Z\": 50}'",
    ],
)
def test_a_damaged_position_is_not_traded_until_it_is_set_manually(
    market: Market, sqlite_url: str, caplog: pytest.LogCaptureFixture, change: str
) -> None:
    damage(sqlite_url, f"UPDATE bot_positions SET {change} WHERE symbol = 'IBM' AND bot_name = 'b'")
    statements = read_statements(sqlite_url)
    assert [holding.price for holding in statements[0].holdings] == [100.0, None]
    assert sells_all(market, sqlite_url) == ["AAPL"]
    assert "IBM: its row of bot_positions is damaged" in caplog.text
    with get_db_session(sqlite_url) as session:
        held = read_portfolio(session, "b")["IBM"]
    by_hand = ["portfolio", "set", "b", "IBM", str(held), "--database-url", sqlite_url]
    assert CliRunner().invoke(app, by_hand).exit_code == 0
    assert sells_all(market, sqlite_url) == ["IBM"]


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE trades SET price = 'much'",
        "UPDATE trades SET quantity = -1, costs = 9e999",
        "UPDATE trades SET side = 'steal'",
        "UPDATE trades SET executed_at = 5",
        "UPDATE trades SET symbol = x'ff'",
        "UPDATE bot_values SET value = 'much'",
        "UPDATE bot_values SET at = 'yesterday'",
    ],
)
def test_damaged_trades_and_values_are_left_out_of_statements_and_rounds(
    market: Market, sqlite_url: str, caplog: pytest.LogCaptureFixture, change: str
) -> None:
    damage(sqlite_url, f"{change} WHERE bot_name = 'b'")
    damaged, other = read_statements(sqlite_url)
    table, column = change.split()[1], change.split()[3]
    assert not (damaged.trades if table == "trades" else damaged.values)
    assert len(other.trades) == 2
    assert len(other.values) == 1
    [warning] = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert warning.startswith(f"{table}: ")
    assert column in warning
    assert sells_all(market, sqlite_url) == ["AAPL", "IBM"]


@pytest.mark.parametrize(
    "change",
    [
        "portfolio = ''",
        "portfolio = '[]'",
        f"portfolio = '{'[' * 9999}{']' * 9999}'",
        'portfolio = \'{"USD": 5, "AAPL": null}\'',
        'portfolio = \'{"USD": 5, "AAPL": "x"}\'',
        "created_at = 5",
        "updated_at = 'yesterday'",
    ],
)
def test_a_damaged_bot_does_not_affect_other_bots(
    market: Market, sqlite_url: str, caplog: pytest.LogCaptureFixture, change: str
) -> None:
    damage(sqlite_url, f"UPDATE bots SET {change} WHERE name = 'b'")
    assert [statement.name for statement in read_statements(sqlite_url)] == ["other"]
    assert len(caplog.records) == 1
    with pytest.raises(BotError, match="portfolio"):
        read_statements(sqlite_url, ["b"])
    with get_db_session(sqlite_url) as session:
        assert active_symbols(session) == ["AAPL", "IBM"]
    with pytest.raises(BotError, match="portfolio"):
        sells_all(market, sqlite_url)
    done = CliRunner().invoke(
        app, ["portfolio", "close", "b", "AAPL", "--price", "1", "--database-url", sqlite_url]
    )
    assert (done.exit_code, done.stdout) == (1, "")


def test_an_invalid_quantity_can_be_set_manually(sqlite_url: str, market: Market) -> None:
    damage(sqlite_url, 'UPDATE bots SET portfolio = \'{"USD": 5, "AAPL": "x"}\' WHERE name = \'b\'')
    by_hand = ["portfolio", "set", "b", "AAPL", "3", "--database-url", sqlite_url]
    assert CliRunner().invoke(app, by_hand).stdout == "b holds 3 AAPL; before: x\n"
    assert sells_all(market, sqlite_url) == ["AAPL"]
