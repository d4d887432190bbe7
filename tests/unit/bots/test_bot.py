"""Rounds of a bot with real candle files and a real database, and the safety of its money."""

import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from tests.support import commands
from tests.support.market import Market, ScriptedBot
from tradingbot.bots.bot import Bot
from tradingbot.bots.broker import PaperBroker
from tradingbot.bots.console import lines
from tradingbot.bots.universe import active_symbols
from tradingbot.errors import (
    BotError,
    ConfigError,
    DatabaseError,
    DataError,
    StrategyError,
    TradeRefused,
)
from tradingbot.persistence.engine import get_db_session, get_engine
from tradingbot.persistence.models import BotRow, RunLog, Trade


@pytest.fixture
def market(tmp_path: Path) -> Market:
    """AAPL closes at 100, IBM at 50; Wednesday 2024-05-15 has closed."""
    market = Market(tmp_path / "candles")
    market.write("AAPL", [98.0, 99.0, 101.0, 100.0])
    market.write("IBM", [52.0, 51.0, 50.0])
    return market


def portfolio(url: str, name: str = "b") -> dict[str, float]:
    with get_db_session(url) as session:
        return dict(session.get_one(BotRow, name).portfolio)


def trades(url: str) -> list[tuple[str, str, float, float]]:
    with get_db_session(url) as session:
        rows = session.scalars(select(Trade).order_by(Trade.id))
        return [(row.side, row.symbol, round(row.quantity, 6), row.price) for row in rows]


def logs(url: str) -> list[RunLog]:
    with get_db_session(url) as session:
        return list(session.scalars(select(RunLog).order_by(RunLog.id)))


# rounds -----------------------------------------------------------------------------------


def test_a_round_buys_at_the_newest_close_and_counts_the_costs(
    market: Market, database: str
) -> None:
    done = market.bot(ScriptedBot, database, symbol="aapl", answers={"AAPL": 1}).run()
    # 10,000 = 99.95002499 x 100 plus 5 basis points
    assert portfolio(database) == {"USD": 0.0, "AAPL": pytest.approx(10_000 / 100.05)}
    with get_db_session(database) as session:
        [trade] = session.scalars(select(Trade))
    assert (trade.bot_name, trade.symbol, trade.side, trade.price) == ("b", "AAPL", "buy", 100.0)
    assert trade.costs == pytest.approx(10_000 - 10_000 / 1.0005)
    assert trade.executed_at == datetime(2024, 5, 15, 20), "when New York had that close"
    [log] = logs(database)
    assert (log.name, log.status, log.exit_code) == ("b", "ok", 0)
    assert log.counts == {"tickers": 1, "decided": 1, "failed": 0, "trades": 1}
    assert log.details["decisions"]["AAPL"] == {
        "bar": "2024-05-15T00:00:00", "close": 100.0, "decision": 1, "reason": "",
    }  # fmt: skip
    assert log.finished_at is not None
    assert [fill.symbol for fill in done.fills] == ["AAPL"]


def test_cash_is_split_evenly_and_slippage_is_a_setting(
    market: Market, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KRONOS_SLIPPAGE_BPS", "0")
    bot = market.bot(
        ScriptedBot, database, tickers=["AAPL", "IBM"], settings=None, answers={"AAPL": 1, "IBM": 1}
    )
    bot.run()
    assert portfolio(database) == {"USD": 0.0, "AAPL": 50.0, "IBM": 100.0}


def test_a_decision_sees_the_newest_bar_earlier_bars_and_the_position(
    market: Market, sqlite_url: str
) -> None:
    seen = {}

    class Looks(Bot):
        def decisionFunction(self, row: Any) -> int:
            seen[self.symbol] = (dict(row), row.name, list(self.history["close"]), self.portfolio)
            return 0

    market.bot(Looks, sqlite_url, tickers="IBM,AAPL").run()
    row, time, closes, owned = seen["AAPL"]
    assert row == {"open": 101.0, "high": 101.0, "low": 100.0, "close": 100.0, "volume": 1000.0}
    assert time == datetime(2024, 5, 15)
    assert closes == [98.0, 99.0, 101.0, 100.0]
    assert owned == {"USD": 10_000.0, "AAPL": 0.0, "IBM": 0.0}
    assert list(seen) == ["IBM", "AAPL"]


def test_a_new_bot_makes_its_tickers_active(market: Market, database: str) -> None:
    market.bot(ScriptedBot, database, tickers=["AAPL", "IBM"], answers={"AAPL": 1}).run()
    with get_db_session(database) as session:
        assert active_symbols(session) == ["AAPL", "IBM"]
    market.bot(ScriptedBot, database, tickers=["AAPL"], answers={}).run()
    with get_db_session(database) as session:
        assert active_symbols(session) == ["AAPL"], "what it neither owns nor watches is gone"


def test_holdings_of_unwatched_tickers_are_kept(market: Market, sqlite_url: str) -> None:
    market.bot(ScriptedBot, sqlite_url, tickers=["AAPL"], answers={"AAPL": 1}).run()
    market.bot(ScriptedBot, sqlite_url, tickers=["IBM"], answers={"IBM": 1}).run()
    assert portfolio(sqlite_url)["AAPL"] == pytest.approx(10_000 / 100.05)
    market.bot(ScriptedBot, sqlite_url, tickers=["IBM"], answers={}).sell("AAPL")
    assert portfolio(sqlite_url)["AAPL"] == 0


def test_each_bar_is_traded_at_most_once(market: Market, database: str, tmp_path: Path) -> None:
    market.bot(ScriptedBot, database, tickers=["AAPL"], answers={"AAPL": 1}).run()
    again = market.bot(ScriptedBot, database, tickers=["AAPL"], answers={"AAPL": -1}).run()
    assert again.fills == []
    assert again.decisions[0].traded_before
    tomorrow = Market(tmp_path / "tomorrow", today=datetime(2024, 5, 16))
    tomorrow.write("AAPL", [99.0, 101.0, 100.0, 110.0])
    tomorrow.bot(ScriptedBot, database, tickers=["AAPL"], answers={"AAPL": -1}).run()
    assert [(side, price) for side, _, _, price in trades(database)] == [
        ("buy", 100.0), ("sell", 110.0),
    ]  # fmt: skip
    assert portfolio(database) == {
        "USD": pytest.approx(10_000 / 100.05 * 110 * 0.9995), "AAPL": 0.0,
    }  # fmt: skip


def test_a_round_without_a_trade_may_be_followed_by_one_on_the_same_bar(
    market: Market, database: str
) -> None:
    market.bot(ScriptedBot, database, tickers=["AAPL"], answers={}).run()
    market.bot(ScriptedBot, database, tickers=["AAPL"], answers={"AAPL": 1}).run()
    assert len(trades(database)) == 1


PROCESS = """
import os, sys, time
from pathlib import Path
from tradingbot.bots.bot import Bot
from tradingbot.data.service import DataService
from tradingbot.persistence.engine import get_db_session

class Slow(Bot):
    def decisionFunction(self, row):
        Path(sys.argv[2]).touch()
        while not Path(sys.argv[3]).exists():  # all have decided before one trades
            time.sleep(0.01)
        return int(sys.argv[4])

fill, data = sys.argv[5], DataService(sys.argv[1], min_bars=1)
Slow("b", tickers=["AAPL"], fill=fill, data=data).main([])
"""


@pytest.mark.integration
@pytest.mark.parametrize("fill", ["open", "close"])
def test_several_processes_with_the_same_bot_trade_once(
    market: Market, database: str, tmp_path: Path, fill: str
) -> None:
    decided_before(market, database, fill)
    decided, go = [tmp_path / f"decided-{i}" for i in range(3)], tmp_path / "go"
    processes = [
        start(PROCESS, database, market.source, mine, go, answer, fill)
        for mine, answer in zip(decided, (1, 1, -1), strict=True)
    ]
    wait_for(decided, processes)
    go.touch()
    ends = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], ends
    # in either order: the seller had nothing to sell, or the bar had already been traded
    assert [side for side, *_ in trades(database)] == ["buy"]
    assert portfolio(database) == {"USD": 0.0, "AAPL": pytest.approx(10_000 / 100.05)}


def decided_before(market: Market, database: str, fill: str) -> None:
    """Run a first round; with `fill="open"`, an order waits that fills at the open of 100."""
    market.bot(
        ScriptedBot, database, tickers=["AAPL"], answers={"AAPL": int(fill == "open")}, fill=fill
    ).run()
    if fill == "open":
        market.write("AAPL", [98.0, 99.0, 101.0, 100.0, 104.0], today=datetime(2024, 5, 16))


def start(program: str, database: str, *arguments: Any) -> commands.Piped:
    env = {**os.environ, "DATABASE_URL": database}
    return commands.piped("-c", program, *map(str, arguments), env=env)


def wait_for(files: list[Path], processes: list[commands.Piped]) -> None:
    pause = threading.Event()
    for _ in range(6000):
        if all(file.exists() for file in files):
            return
        for process in processes:
            assert process.poll() is None, process.communicate()
        pause.wait(0.01)
    raise AssertionError("the processes did not start within a minute")


# unusable prices --------------------------------------------------------------------------


class Fails(Bot):
    def decisionFunction(self, row: Any) -> int:
        if self.symbol == "IBM":
            raise ZeroDivisionError("an average of nothing")
        return 1


def test_an_exception_in_a_strategy_trades_nothing_and_is_logged(
    market: Market, database: str
) -> None:
    bot = market.bot(Fails, database, tickers=["AAPL", "IBM"])
    with pytest.raises(StrategyError, match=r"b, deciding on IBM of 2024-05-15.*an average of n"):
        bot.run()
    assert trades(database) == []
    assert portfolio(database) == {"USD": 10_000.0, "AAPL": 0.0, "IBM": 0.0}
    [log] = logs(database)
    assert (log.status, log.exit_code, log.counts) == ("failed", 1, {})
    assert log.message is not None
    assert "ZeroDivisionError: an average of nothing" in log.message
    with pytest.raises(RuntimeError, match="in a decision only"):
        _ = bot.history


@pytest.mark.integration
def test_a_failing_strategy_ends_its_process_with_1_and_a_traceback(
    market: Market, sqlite_url: str
) -> None:
    program = (
        "import sys\nfrom tradingbot.utils.core import Bot\n"
        "class Fails(Bot):\n"
        "    def decisionFunction(self, row):\n"
        "        return row['clsoe']\n"
        "Fails('b', 'AAPL').main()"
    )
    env = {**os.environ, "DATABASE_URL": sqlite_url, "KRONOS_DATA_SOURCE": market.source}
    done = commands.run("-c", program, cwd=market.folder, env=env)
    assert done.returncode == 1
    assert "line 5, in decisionFunction" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("Error: b, deciding on AAPL of 2024-05-15")
    assert "KeyError: 'clsoe'; nothing was traded" in done.stderr
    assert [log.exit_code for log in logs(sqlite_url)] == [1]


@pytest.mark.parametrize(
    "answer", [7, None, "buy", True, np.bool_(True), float("nan"), 0.5, [1], -2]
)
def test_an_invalid_answer_is_a_strategy_error(
    market: Market, sqlite_url: str, answer: Any
) -> None:
    with pytest.raises(StrategyError, match=r"answered .*; expected -1, 0 or 1; nothing was"):
        market.bot(ScriptedBot, sqlite_url, symbol="AAPL", answers={"AAPL": answer}).run()
    assert trades(sqlite_url) == []
    assert [log.status for log in logs(sqlite_url)] == ["failed"]


def test_a_strategy_that_exits_ends_the_process_with_1_and_trades_nothing(
    market: Market, sqlite_url: str
) -> None:
    class Leaves(Bot):
        def decisionFunction(self, row: Any) -> int:
            sys.exit(0)

    with pytest.raises(SystemExit) as end:
        market.bot(Leaves, sqlite_url, symbol="AAPL").main([])
    assert end.value.code == 1
    assert trades(sqlite_url) == []
    [log] = logs(sqlite_url)
    assert (log.status, log.exit_code) == ("failed", 1)
    assert log.message is not None
    assert "SystemExit: 0; nothing was traded" in log.message


def test_ctrl_c_in_a_round_without_a_command_is_logged_as_an_interrupt(
    market: Market, sqlite_url: str
) -> None:
    class Interrupted(Bot):
        def decisionFunction(self, row: Any) -> int:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        market.bot(Interrupted, sqlite_url, symbol="AAPL").run()
    assert [(log.status, log.exit_code) for log in logs(sqlite_url)] == [("failed", 130)]


ODD = [(np.int64(3), "3"), (None, ""), ("a\0b\ud800", "ab?"), ("BUY\n\nIt rises.", None)]


@pytest.mark.parametrize(("reason", "kept"), ODD)
def test_a_reason_of_any_kind_is_kept_and_printed_in_one_line(
    market: Market, database: str, reason: Any, kept: str | None
) -> None:
    class Explains(Bot):
        def decisionFunction(self, row: Any) -> int:
            self.reason = reason
            return 1

    done = market.bot(Explains, database, symbol="AAPL").run()
    [log] = logs(database)
    assert log.details["decisions"]["AAPL"]["reason"] == (reason if kept is None else kept)
    printed = lines(done)[3]
    assert printed.endswith(f"buy: {'BUY It rises.' if kept is None else kept}".removesuffix(": "))


def test_an_error_of_any_kind_is_logged_in_one_line(market: Market, database: str) -> None:
    class Odd(Bot):
        def decisionFunction(self, row: Any) -> int:
            raise ValueError("two\nlines\0")

    with pytest.raises(StrategyError, match="ValueError: two lines; nothing was traded"):
        market.bot(Odd, database, symbol="AAPL").run()
    [log] = logs(database)
    assert log.message is not None
    assert log.message.endswith("two lines; nothing was traded")


@pytest.mark.parametrize("answer", [np.int64(1), np.float64(1), 1.0])
def test_numbers_of_any_type_are_valid_answers(
    market: Market, sqlite_url: str, answer: Any
) -> None:
    market.bot(ScriptedBot, sqlite_url, symbol="AAPL", answers={"AAPL": answer}).run()
    assert len(trades(sqlite_url)) == 1


def test_no_trade_is_made_at_a_price_of_0(
    market: Market, database: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    both = {"AAPL": 1, "IBM": 1}
    market.bot(ScriptedBot, database, tickers=["AAPL", "IBM"], answers=both).run()
    before = portfolio(database)
    tomorrow = Market(tmp_path / "tomorrow", today=datetime(2024, 5, 16))
    tomorrow.write("AAPL", [99.0, 101.0, 100.0, 0.0])
    tomorrow.write("IBM", [51.0, 50.0, 55.0])
    bot = tomorrow.bot(
        ScriptedBot, database, tickers=["AAPL", "IBM"], answers={"AAPL": -1, "IBM": -1}
    )
    with caplog.at_level(logging.WARNING):
        done = bot.run()
    assert done.failed["AAPL"].startswith(
        "AAPL: its newest bar is of 2024-05-15, sessions since: 1"
    )
    assert "bars dropped for missing or impossible prices: 1" in caplog.text
    assert portfolio(database) == {
        "USD": pytest.approx(before["IBM"] * 55 * 0.9995), "AAPL": before["AAPL"], "IBM": 0.0,
    }  # fmt: skip


def test_a_ticker_with_outdated_bars_is_skipped_alone(market: Market, sqlite_url: str) -> None:
    market.write("OLD", [10.0, 11.0], today=datetime(2024, 5, 8))
    bot = market.bot(
        ScriptedBot, sqlite_url, tickers=["OLD", "AAPL", "NONE"], answers={"OLD": 1, "AAPL": 1}
    )
    done = bot.run()
    assert list(done.failed) == ["OLD", "NONE"]
    assert [symbol for _, symbol, _, _ in trades(sqlite_url)] == ["AAPL"]
    [log] = logs(sqlite_url)
    assert log.counts == {"tickers": 3, "decided": 1, "failed": 2, "trades": 1}
    assert "sessions since: 5" in log.details["failed"]["OLD"]


def test_a_round_without_any_usable_ticker_fails(market: Market, sqlite_url: str) -> None:
    with pytest.raises(DataError, match=r"no file NONE.csv"):
        market.bot(ScriptedBot, sqlite_url, symbol="NONE", answers={}).run()
    assert [(log.status, log.exit_code) for log in logs(sqlite_url)] == [("failed", 1)]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "bot b has no tickers: give symbol='SPY'"),
        ({"tickers": []}, "no tickers"),
        ({"symbol": " "}, "no tickers"),
        ({"tickers": ["USD"]}, "USD is the cash of a portfolio"),
        ({"tickers": [5]}, "expected text"),
        ({"symbol": "SPY", "period": "1 year"}, "period='1 year': expected 10d"),
        ({"symbol": "SPY", "interval": "daily"}, "interval='daily': expected 1d"),
        ({"symbol": "SPY", "name": " "}, "a bot named ' '"),
        ({"symbol": "SPY", "name": "kronosbot"}, "expected another name"),
        ({"symbol": "SPY", "name": "two\nlines"}, "expected letters"),
        ({"tickers": 5}, "tickers=5: expected"),
    ],
)
def test_impossible_bot_parameters_are_settings_errors(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Bot(**{"name": "b", **options})


def test_a_bot_without_a_decision_function_says_so(market: Market, sqlite_url: str) -> None:
    with pytest.raises(StrategyError, match="Bot has no decisionFunction"):
        market.bot(Bot, sqlite_url, symbol="AAPL").run()


def test_candles_that_contradict_earlier_ones_are_refused(
    market: Market, database: str, tmp_path: Path
) -> None:
    market.bot(ScriptedBot, database, symbol="AAPL", answers={"AAPL": 1}).run()
    past = Market(tmp_path / "past", today=datetime(2013, 2, 21))
    past.write("AAPL", [440.0, 450.0, 446.06])
    with pytest.raises(ConfigError, match="has traded AAPL at 2024-05-15 20:00, after the newest"):
        past.bot(ScriptedBot, database, symbol="AAPL", answers={"AAPL": -1}).run()
    assert len(trades(database)) == 1
    assert [log.exit_code for log in logs(database)] == [0, 2]


def test_a_split_changes_the_quantity_and_not_the_value(
    market: Market, database: str, tmp_path: Path
) -> None:
    market.bot(ScriptedBot, database, symbol="AAPL", answers={"AAPL": 1}).run()
    after = Market(tmp_path / "after", today=datetime(2024, 5, 16))
    after.write("AAPL", [9.8, 9.9, 10.1, 10.0, 11.0])  # ten for one
    done = after.bot(ScriptedBot, database, symbol="AAPL", answers={}).run()
    assert portfolio(database)["AAPL"] == pytest.approx(10 * 10_000 / 100.05)
    assert "a split; 99.95 shares are now 999.5" in done.remarks[0]
    booked = [("sell", 100.0), ("buy", 10.0)]
    assert [(side, price) for side, _, _, price in trades(database)[1:]] == booked
    again = after.bot(ScriptedBot, database, symbol="AAPL", answers={"AAPL": -1}).run()
    assert again.remarks == ["AAPL: the source reports no dividends, so none are credited"]
    assert portfolio(database)["USD"] == pytest.approx(10_000 / 100.05 * 110 * 0.9995)


# lost database connections ----------------------------------------------------------------


def test_a_connection_lost_during_a_trade_trades_nothing(
    market: Market, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    close = PaperBroker.close

    def lose(broker: PaperBroker) -> None:
        close(broker)  # the changes of portfolio and trades are not yet committed
        backend = broker.session.scalar(text("SELECT pg_backend_pid()"))
        with get_engine(postgres_url).connect() as other:
            other.execute(text(f"SELECT pg_terminate_backend({backend})"))

    bot = market.bot(ScriptedBot, postgres_url, symbol="AAPL", answers={"AAPL": 1})
    with monkeypatch.context() as patched:
        patched.setattr(PaperBroker, "close", lose)
        with pytest.raises(DatabaseError, match="server closed the connection"):
            bot.run()
    assert trades(postgres_url) == []
    assert portfolio(postgres_url) == {"USD": 10_000.0, "AAPL": 0.0}
    assert [(log.status, log.exit_code) for log in logs(postgres_url)] == [("failed", 1)]
    bot.run()
    assert len(trades(postgres_url)) == 1, "the next round does it"


def test_a_lost_answer_to_the_commit_leaves_log_and_trades_consistent(
    market: Market, database: str
) -> None:
    lost = []

    @contextmanager
    def unlucky() -> Iterator[Session]:
        """Sessions whose first commit of a trade succeeds, but raises as if it had failed."""
        with get_db_session(database) as session:
            yield session
        if not lost and trades(database):
            lost.append(True)
            raise DatabaseError("the server closed the connection")

    bot = market.bot(ScriptedBot, database, symbol="AAPL", answers={"AAPL": 1}, sessions=unlucky)
    with pytest.raises(DatabaseError):
        bot.run()
    assert lost
    assert len(trades(database)) == 1
    assert [log.status for log in logs(database)] == ["ok"]
    bot.run()
    assert len(trades(database)) == 1, "the bar was traded"


KILLED = """
import os, signal, sys
from tradingbot.bots.bot import Bot
from tradingbot.bots.broker import PaperBroker
from tradingbot.data.service import DataService

class Buys(Bot):
    def decisionFunction(self, row):
        return 1

close = PaperBroker.close

def die(broker):
    close(broker)
    os.kill(os.getpid(), signal.SIGKILL)

PaperBroker.close = die
Buys("b", tickers=["AAPL"], fill=sys.argv[2], data=DataService(sys.argv[1], min_bars=1)).main([])
"""


@pytest.mark.integration
@pytest.mark.parametrize("fill", ["open", "close"])
def test_a_process_killed_during_a_trade_has_traded_nothing(
    market: Market, database: str, fill: str
) -> None:
    decided_before(market, database, fill)
    process = start(KILLED, database, market.source, fill)
    output = process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL, output
    assert trades(database) == []
    assert portfolio(database) == {"USD": 10_000.0, "AAPL": 0.0}
    assert [log.status for log in logs(database)] == ["ok", "running"], "the killed one's"
    market.bot(ScriptedBot, database, symbol="AAPL", answers={"AAPL": 1}, fill=fill).run()
    assert [(side, price) for side, _, _, price in trades(database)] == [("buy", 100.0)]


def test_a_database_out_of_reach_ends_the_round_before_any_decision(market: Market) -> None:
    bot = market.bot(ScriptedBot, "postgresql://me@127.0.0.1:9/kronos", symbol="AAPL", answers={})
    with pytest.raises(DatabaseError, match="127"):
        bot.run()


# manual trades ----------------------------------------------------------------------------


def test_a_bot_may_trade_manually_outside_decisions(market: Market, database: str) -> None:
    bot = market.bot(ScriptedBot, database, tickers=["AAPL", "IBM"], answers={})
    assert bot.portfolio == {"USD": 10_000.0}, "a new bot's"
    bot.buy("AAPL", 4_002.0)
    assert bot.portfolio == {"USD": 5_998.0, "AAPL": pytest.approx(40.0), "IBM": 0.0}
    with pytest.raises(TradeRefused, match=r"the cash is 5998.00 USD"):
        bot.buy("AAPL", 6_000.0)
    bot.sell("AAPL", 10.0)
    assert bot.portfolio["USD"] == pytest.approx(5_998 + 999.5)
    assert bot.sell("IBM") is None
    fills = bot.rebalance({"IBM": 0.5})
    assert [(fill.side, fill.symbol) for fill in fills] == [("sell", "AAPL"), ("buy", "IBM")]
    assert bot.portfolio["AAPL"] == 0
    assert bot.portfolio["USD"] == pytest.approx(bot.portfolio["IBM"] * 50, rel=1e-3)
    assert len(trades(database)) == 4


@pytest.mark.parametrize("what", ["buy", "run", "backtest"])
def test_manual_trading_inside_a_decision_is_refused(
    market: Market, sqlite_url: str, what: str
) -> None:
    class Trades(Bot):
        def decisionFunction(self, row: Any) -> int:
            getattr(self, what)(*(["AAPL", 100.0] if what == "buy" else []))
            return 0

    with pytest.raises(StrategyError, match="its result, -1, 0 or 1, is traded"):
        market.bot(Trades, sqlite_url, symbol="AAPL").run()
    assert trades(sqlite_url) == []
    assert len(logs(sqlite_url)) == 1


def test_cash_is_distinct_from_a_ticker_named_usd(market: Market, sqlite_url: str) -> None:
    market.write("USD", [60.0, 61.0])  # on Yahoo, USD is also the ticker of an ETF
    bot = market.bot(ScriptedBot, sqlite_url, symbol="AAPL", answers={})
    for order in (
        lambda: bot.buy("USD", 100.0),
        lambda: bot.sell("usd"),
        lambda: bot.rebalance({"USD": 0.4, "AAPL": 0.6}),
    ):
        with pytest.raises(
            TradeRefused, match="expected a ticker, and USD is the portfolio's cash"
        ):
            order()
    assert bot.portfolio == {"USD": 10_000.0}


def test_spellings_of_a_ticker_share_one_position(market: Market, sqlite_url: str) -> None:
    bot = market.bot(ScriptedBot, sqlite_url, symbol="AAPL", answers={})
    bot.buy(" aapl ", 5_002.5)
    assert bot.portfolio == {"USD": 4_997.5, "AAPL": pytest.approx(50.0)}
    with pytest.raises(TradeRefused, match="a ticker is listed twice"):
        bot.rebalance({"AAPL": 0.5, "aapl": 0.5})
    bot.rebalance({"aapl": 0.0})
    assert bot.portfolio["AAPL"] == 0
    with pytest.raises(TradeRefused, match="trading None: expected a ticker"):
        bot.buy(None)


def test_a_manual_trade_refuses_an_outdated_price(market: Market, sqlite_url: str) -> None:
    market.write("OLD", [10.0, 11.0], today=datetime(2024, 5, 8))
    bot = market.bot(ScriptedBot, sqlite_url, symbol="AAPL", answers={})
    for order in (lambda: bot.buy("OLD", 100.0), lambda: bot.rebalance({"OLD": 0.5})):
        with pytest.raises(DataError, match="sessions since: 5; there is no price to trade at"):
            order()
    assert trades(sqlite_url) == []


@pytest.mark.parametrize("edited", ["null", "[]", "5", "not JSON"])
def test_an_invalid_edited_portfolio_is_a_one_line_error(
    market: Market, database: str, edited: str, caplog: pytest.LogCaptureFixture
) -> None:
    market.bot(ScriptedBot, database, name="other", symbol="IBM", answers={}).run()
    bot = market.bot(ScriptedBot, database, symbol="AAPL", answers={"AAPL": 1})
    bot.run()
    if edited == "not JSON" and database.startswith("postgres"):
        edited = '"text"'  # Postgres's JSON type rejects anything else that is invalid
    with get_db_session(database) as session:
        session.execute(
            text("UPDATE bots SET portfolio = CAST(:edited AS JSON) WHERE name = 'b'")
            if database.startswith("postgres")
            else text("UPDATE bots SET portfolio = :edited WHERE name = 'b'"),
            {"edited": edited},
        )
    for use in (bot.run, lambda: bot.main([]), lambda: bot.portfolio, lambda: bot.sell("AAPL")):
        with pytest.raises((BotError, SystemExit)) as error:
            use()
        assert "of 'b' cannot be read" in str(error.value) or error.value.args == (1,)
    assert len(trades(database)) == 1
    with get_db_session(database) as session:
        assert active_symbols(session) == ["IBM"], "the other bots' tickers are forecast"


@pytest.mark.parametrize("amount", ["-3", '"5"', "1e400"])
def test_an_impossible_quantity_ends_the_round_and_is_logged(
    market: Market, sqlite_url: str, amount: str
) -> None:
    bot = market.bot(ScriptedBot, sqlite_url, symbol="AAPL", answers={"AAPL": -1})
    bot.run()
    with get_db_session(sqlite_url) as session:
        owned = f'{{"USD": 10000, "AAPL": {amount}}}'
        session.execute(text("UPDATE bots SET portfolio = :owned"), {"owned": owned})
    with pytest.raises(TradeRefused, match="the portfolio has AAPL="):
        bot.run()
    assert [log.exit_code for log in logs(sqlite_url)] == [0, 1]
    assert trades(sqlite_url) == []


def test_the_period_limits_the_visible_past(tmp_path: Path, sqlite_url: str) -> None:
    market = Market(tmp_path / "candles")
    market.write("AAPL", [100.0 + i for i in range(300)])
    lengths = {
        period: len(market.bot(ScriptedBot, sqlite_url, symbol="AAPL", period=period).fetch("AAPL"))
        for period in ("1d", "2wk", "1y", "999y", "max")
    }
    assert lengths == {"1d": 1, "2wk": 10, "1y": 252, "999y": 300, "max": 300}


def test_a_round_prints_decisions_trades_and_portfolio(market: Market, sqlite_url: str) -> None:
    class Explains(ScriptedBot):
        def decisionFunction(self, row: Any) -> Any:
            self.reason = f"it closed at {row['close']:g}"
            return super().decisionFunction(row)

    options = {"tickers": ["AAPL", "IBM", "NONE"], "answers": {"AAPL": 1}}
    assert lines(market.bot(Explains, sqlite_url, **options).run()) == [
        "b",
        "",
        "Ticker  Bar                 Close  Decision",
        "AAPL    Wed 2024-05-15     100.00  buy: it closed at 100",
        "IBM     Wed 2024-05-15      50.00  keep: it closed at 50",
        f"NONE    left out: no file NONE.csv in {market.folder}, which has AAPL, IBM",
        "",
        "Trades     bought 99.95 AAPL at 100.00, costs 5.00",
        "Portfolio  USD 0.00; AAPL 99.95 = 9,995.00; 9,995.00 in all",
    ]
