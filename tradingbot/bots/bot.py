"""The base class of bots: it decides on the newest complete bars, and trades on paper.

    class MyBot(Bot):
        def decisionFunction(self, row):
            return 1 if row["close"] > self.history["close"].tail(50).mean() else -1

    MyBot("my-bot", tickers=["SPY", "GLD"]).run()

A trade is at the close of the newest complete bar; its costs are KRONOS_SLIPPAGE_BPS of its value.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from numbers import Real
from typing import TYPE_CHECKING, Any

from tradingbot.bots.account import CASH, Account, Fill, ticker
from tradingbot.errors import ConfigError, DataError, KronosError, StrategyError, TradeRefused
from tradingbot.formatting import one_line
from tradingbot.runtime.lookahead import refuse_in_backtest
from tradingbot.settings import Settings, parse_symbols
from tradingbot.typing import SessionFactory

if TYPE_CHECKING:
    import pandas as pd
    from sqlalchemy.orm import Session

    from tradingbot.bots.backtest import Backtest
    from tradingbot.bots.runner import Round
    from tradingbot.data.service import DataService
    from tradingbot.forecast import Forecast


class Bot:
    """A strategy with a paper portfolio in the database.

    Write `decisionFunction`; `run` does one round, `backtest` replays the past, `main` is a round
    as a command. `name` is the bot's in the tables `bots`, `trades` and `run_logs`. It watches
    `symbol`, or all `tickers`, in bars of `interval` (1d, or minutes and hours: 15m, 1h), and sees
    the `period` before the newest one (10d, 4wk, 6mo, 1y, max). Other keywords are the strategy's,
    in `self.params`.

    `data`, `sessions` and `settings` replace what the environment says: KRONOS_DATA_SOURCE, the
    database's address, KRONOS_SLIPPAGE_BPS. ConfigError for a bot without tickers, and the like.
    """

    def __init__(
        self,
        name: str,
        symbol: str | None = None,
        tickers: Iterable[str] | None = None,
        interval: str = "1d",
        period: str = "1y",
        *,
        data: "DataService | None" = None,
        sessions: SessionFactory | None = None,
        settings: Settings | None = None,
        **params: Any,
    ) -> None:
        if not isinstance(name, str) or not name.strip() or name.strip() == "kronosbot":
            raise ConfigError(f"a bot named {name!r}: expected a name of its own, such as 'my-bot'")
        if not name.isprintable():  # it stands in tables, logs and on terminals
            raise ConfigError(f"a bot named {name!r}: expected letters, digits, spaces and signs")
        self.name = name.strip()
        self.tickers = _tickers(self.name, symbol, tickers)
        self.symbol = self.tickers[0]  # the ticker that is being decided
        self.reason = ""  # why, in words: a decisionFunction may say so
        self.interval = _interval(interval)
        self.period = period
        self.params = params
        self.settings = settings or Settings.from_env()
        self._period_days = _days(period)
        self._given_data = data
        self._sessions = sessions
        self._account: Account | None = None  # while it decides: what it owns
        self._seen: tuple[pd.DataFrame, int] | None = None  # bars, and how many of them are past

    # the strategy ------------------------------------------------------------------------

    def decisionFunction(self, row: "pd.Series") -> int:
        """1 to hold `self.symbol`, -1 to sell all of it, 0 to leave it as it is.

        `row` is its newest complete bar: open, high, low, close, volume (if there is one); its
        `name` is the bar's time. `self.history` ends with it. An exception, or any other answer,
        ends the round, and nothing is traded.
        """
        raise NotImplementedError(f"{type(self).__name__} has no decisionFunction")

    @property
    def history(self) -> "pd.DataFrame":
        """The bars of `self.symbol` up to and with the one that is decided on."""
        if self._seen is None:
            raise RuntimeError("Bot.history is there while a decision is made, in decisionFunction")
        frame, end = self._seen
        return frame.iloc[:end]

    @property
    def portfolio(self) -> dict[str, float]:
        """What the bot owns, `{"USD": cash, "AAPL": quantity}`: a copy."""
        if self._account is not None:
            return dict(self._account.portfolio)
        from tradingbot.bots.repository import read_portfolio

        with self.sessions() as session:
            return read_portfolio(session, self.name)

    def stored_forecast(
        self, horizon: int | None = None, *, model: str | None = None
    ) -> "Forecast | None":
        """The forecast of `self.symbol` that was stored as of the bar that is decided on, or None.

        In a round that is the newest complete bar: no older forecast counts. In a backtest it is
        what was believed then. `horizon` days must be there, KRONOS_HORIZON by default; without
        a `model` the forecast made last counts.
        """
        if self._seen is None:
            raise RuntimeError("Bot.stored_forecast is for decisions, in decisionFunction")
        from tradingbot.persistence.forecasts import latest_stored

        frame, end = self._seen
        with self.sessions() as session:
            return latest_stored(
                session,
                self.symbol,
                interval=self.interval,
                horizon=horizon or self.settings.horizon,
                as_of=frame.index[end - 1].to_pydatetime(),
                model_name=model,
            )

    # one round ---------------------------------------------------------------------------

    def run(self) -> "Round":
        """Fetch, decide, trade on paper, log: once. What was decided and done is returned.

        A ticker without usable candles is left out, and the others go on; DataError if none is
        left. A ticker that was traded on the same bar before is not traded again, so a second run
        and a second process do no harm. Whatever is raised, nothing was traded, and `run_logs`
        says why: StrategyError, DatabaseError, ConfigError.
        """
        from tradingbot.bots.runner import run_round

        self._refuse_while_deciding("run")
        return run_round(self)

    def main(self) -> None:
        """`run` as a command: prints decisions and portfolio, and ends the process.

        Exit codes: 0 done; 1 no ticker could be decided, the strategy failed, or the database is
        out of reach; 2 a wrong setting; 130 Ctrl-C; 143 SIGTERM.
        """
        from tradingbot.bots.console import run_as_command

        run_as_command(lambda: self)

    def backtest(
        self,
        history: "pd.DataFrame | Mapping[str, pd.DataFrame] | None" = None,
        *,
        cash: float = 10_000.0,
    ) -> "Backtest":
        """The same decisions over past bars: what is decided on one is traded at the next's open.

        `history` is a frame (one ticker) or one a ticker; without it, the bot's `period` is
        fetched. Neither portfolio nor database is changed. See `tradingbot.bots.backtest`.
        """
        from tradingbot.bots.backtest import run_backtest

        self._refuse_while_deciding("backtest")
        if history is None:
            history = {symbol: self.fetch(symbol) for symbol in self.tickers}
        return run_backtest(self, history, cash)

    # trades of one's own -----------------------------------------------------------------

    def buy(self, symbol: str, cash: float | None = None) -> Fill | None:
        """Buy for `cash` USD, costs included; by default for all there is.

        At the close of the latest complete session, at once; DataError when the newest bar is
        older. For a bot that does not go by decisions: in a decisionFunction it is refused.
        TradeRefused when the cash is not there.
        """
        symbol = ticker(symbol)
        with self._trading([symbol]) as account:
            return account.buy(symbol, cash)

    def sell(self, symbol: str, quantity: float | None = None) -> Fill | None:
        """Sell `quantity` units; by default all, None if there are none. As `buy` otherwise."""
        symbol = ticker(symbol)
        with self._trading([symbol]) as account:
            return account.sell(symbol, quantity)

    def rebalance(self, weights: Mapping[str, float]) -> list[Fill]:
        """Bring the whole portfolio to these shares, `{"SPY": 0.6, "GLD": 0.4}`.

        What is held and not named is sold; what is missing to 1 stays cash. As `buy` otherwise.
        """
        shares = {ticker(symbol): weight for symbol, weight in weights.items()}
        if len(shares) < len(weights):
            raise TradeRefused(f"weights {dict(weights)}: a ticker stands there twice")
        held = {symbol for symbol, amount in self.portfolio.items() if amount} - {CASH}
        with self._trading({*shares, *held}) as account:
            others = {symbol for symbol, amount in account.portfolio.items() if amount} - {CASH}
            account.rebalance({**dict.fromkeys(others, 0.0), **shares})
            return account.fills

    @contextmanager
    def _trading(self, symbols: Iterable[str]) -> Iterator[Account]:
        """The account at the newest closes; saved as one transaction when the block ends well."""
        from tradingbot.bots.broker import close_desk, open_desk
        from tradingbot.bots.runner import refuse_old

        self._refuse_while_deciding("buy, sell and rebalance")
        bars = {symbol: self.fetch(symbol) for symbol in symbols}
        for symbol, frame in bars.items():
            refuse_old(self, symbol, frame)
        with self.sessions() as session:
            desk = open_desk(session, self, bars)
            yield desk.account
            close_desk(session, desk)

    def _refuse_while_deciding(self, what: str) -> None:
        if self._account is not None:
            raise RuntimeError(
                f"{what}: not for a decisionFunction, whose answer, -1, 0 or 1, is what is traded"
            )

    # its surroundings --------------------------------------------------------------------

    @property
    def cost_rate(self) -> float:
        """What a trade costs, as a share of its value."""
        return self.settings.slippage_bps / 10_000

    @property
    def data(self) -> "DataService":
        """Where the candles come from. In a backtest it is refused: see `history`."""
        refuse_in_backtest("Bot.data", "Bot.history has the bars up to the one that is decided on")
        return self._data

    @cached_property
    def _data(self) -> "DataService":
        if self._given_data is not None:
            return self._given_data
        from tradingbot.data.service import DataService

        return DataService(
            self.settings.data_source,
            horizon=self.settings.horizon,
            min_bars=1,
            sessions=self.sessions,
        )

    def sessions(self) -> "AbstractContextManager[Session]":
        """A session on the bot's database."""
        if self._sessions is not None:
            return self._sessions()
        from tradingbot.persistence.engine import get_db_session

        return get_db_session()

    def fetch(self, symbol: str) -> "pd.DataFrame":
        """The complete bars of the bot's period, the newest last; DataError if there are none."""
        bars = self._bars_wanted()
        return self._in_period(self.data.history(symbol, interval=self.interval, bars=bars))

    def fetch_all(self) -> "dict[str, pd.DataFrame | DataError]":
        """`fetch` of each ticker, several at a time where that is faster, or why there is none."""
        found = dict(
            self.data.histories(self.tickers, interval=self.interval, bars=self._bars_wanted())
        )
        in_order = ((symbol, found[symbol]) for symbol in self.tickers)
        return {
            symbol: bars if isinstance(bars, DataError) else self._in_period(bars)
            for symbol, bars in in_order
        }

    def _bars_wanted(self) -> int:
        import pandas as pd

        if self._period_days is None:
            return MOST_BARS
        a_day = 1.0 if self.interval == "1d" else pd.Timedelta("1d") / pd.Timedelta(self.interval)
        return min(MOST_BARS, max(FEWEST_BARS, math.ceil(self._period_days * a_day) + 1))

    def _in_period(self, frame: "pd.DataFrame") -> "pd.DataFrame":
        import pandas as pd

        if self._period_days is None:
            return frame
        return frame[frame.index > frame.index[-1] - pd.Timedelta(days=self._period_days)]

    @contextmanager
    def deciding(self, account: Account) -> Iterator[None]:
        """In this block decisions are made by who owns what is in `account`."""
        self._account = account
        try:
            yield
        finally:
            self._account = self._seen = None

    def decide(self, symbol: str, frame: "pd.DataFrame", end: int) -> int:
        """What the strategy says of the bar before position `end`; StrategyError if it fails."""
        self.symbol, self.reason, self._seen = symbol, "", (frame, end)
        row = frame.iloc[end - 1]
        try:
            answer = self.decisionFunction(row)
        except KronosError:
            raise
        except (Exception, SystemExit) as error:  # sys.exit() would end the process with a 0
            said = one_line(error)
            what = f"{type(error).__name__}: {said}" if said else type(error).__name__
            raise StrategyError(f"{self._where(row)}: {what}; nothing was traded") from error
        # no bool, nor numpy's: a rule that answers True or False could never sell
        if not isinstance(answer, Real) or isinstance(answer, bool) or answer not in (-1, 0, 1):
            raise StrategyError(
                f"{self._where(row)}: decisionFunction answered {one_line(repr(answer))}; "
                "expected -1, 0 or 1; nothing was traded"
            )
        return int(answer)

    def _where(self, row: "pd.Series") -> str:
        return f"{self.name}, deciding on {self.symbol} of {row.name}"


MOST_BARS = 20_000  # 80 years of sessions
FEWEST_BARS = 64  # are asked for: a DataService may refuse a history that is short for a forecast


def _tickers(name: str, symbol: str | None, tickers: Iterable[str] | None) -> tuple[str, ...]:
    """Each once, `symbol` first; text with commas is a list too."""
    tickers = [] if tickers is None else tickers
    if not isinstance(tickers, Iterable):
        raise ConfigError(f"bot {name}: tickers={tickers!r}: expected ['SPY', 'GLD']")
    given = tickers.split(",") if isinstance(tickers, str) else list(tickers)
    if symbol is not None:
        given.insert(0, symbol)
    if not all(isinstance(ticker, str) for ticker in given):
        raise ConfigError(f"bot {name}: tickers {given}: expected text, such as 'SPY'")
    found = parse_symbols(",".join(given))
    if not found:
        raise ConfigError(f"bot {name} has no tickers: give symbol='SPY' or tickers=['SPY', 'GLD']")
    if CASH in found:
        raise ConfigError(f"bot {name}: {CASH} is the cash of a portfolio and no ticker")
    return found


def _interval(interval: str) -> str:
    if re.fullmatch(r"1d|[1-9]\d{0,3}[mh]", str(interval)):
        return interval
    raise ConfigError(f"interval={interval!r}: expected 1d, or minutes or hours as 15m or 1h")


_UNITS = {"d": 1, "wk": 7, "mo": 30.5, "y": 365.25}  # days
A_CENTURY = 36_525  # no candles go back further, and Timedelta not much


def _days(period: str) -> float | None:
    """'6mo' in days; None for 'max'."""
    if period == "max":
        return None
    match = re.fullmatch(r"([1-9]\d{0,3})(d|wk|mo|y)", str(period))
    if match is None:
        raise ConfigError(f"period={period!r}: expected 10d, 4wk, 6mo, 1y or max")
    return min(int(match[1]) * _UNITS[match[2]], A_CENTURY)
