"""Base class of bots, which decide on the newest complete bars and trade on paper.

    class MyBot(Bot):
        def decisionFunction(self, row):
            return 1 if row["close"] > self.history["close"].tail(50).mean() else -1

    MyBot("my-bot", tickers=["SPY", "GLD"]).run()

Decisions are traded at the open of the next bar. Trades cost KRONOS_SLIPPAGE_BPS of their value.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from functools import cached_property
from typing import Any

import pandas as pd
from sqlalchemy.orm import Session

from tradingbot.bots.account import CASH, Account, Fill, ticker
from tradingbot.bots.backtest import run_backtest
from tradingbot.bots.backtest_result import Backtest
from tradingbot.bots.broker import trading
from tradingbot.bots.command import AsCommand
from tradingbot.bots.lookback import bars_wanted, in_period
from tradingbot.bots.optimization import Optimization, optimize
from tradingbot.bots.orders import next_open
from tradingbot.bots.repository import read_portfolio
from tradingbot.bots.round_result import Round
from tradingbot.bots.runner import run_round
from tradingbot.bots.strategy import FillAt, Strategy
from tradingbot.bots.ticker_lookup import TickerLookup
from tradingbot.data.service import DataService
from tradingbot.errors import DataError, TradeRefused
from tradingbot.forecast import Forecast
from tradingbot.persistence.engine import get_db_session, rehearsal_session, undone
from tradingbot.persistence.forecasts import latest_stored
from tradingbot.runtime.lookahead import HISTORY, in_backtest, is_deciding, look_ahead
from tradingbot.settings import Settings
from tradingbot.typing import SessionFactory


class Bot(AsCommand):
    """A strategy with a paper portfolio in the database.

    Implement `decisionFunction`. `run` does one round, `backtest` replays the past, and `main` runs
    a round as a command. `name` identifies the bot in the tables `bots`, `trades` and `run_logs`.
    The bot watches `symbol`, or all `tickers`, in bars of `interval` (1d, or minutes and hours:
    15m, 1h), and sees the newest `period` of bars (10d, 4wk, 6mo, 1y, max). Decisions are traded at
    the open of the next bar, or, with `fill="close"`, which is optimistic, at the close of their
    own bar. Other keywords become the strategy's `self.params`.

    `data`, `sessions` and `settings` override the environment: KRONOS_DATA_SOURCE, the database's
    address, KRONOS_SLIPPAGE_BPS. Raises ConfigError for invalid arguments, such as no tickers.
    """

    _per_object = Strategy._per_object | {"_data"}  # recreated where needed

    def __init__(
        self,
        name: str,
        symbol: str | Iterable[str] | None = None,
        tickers: Iterable[str] | None = None,
        interval: str = "1d",
        period: str = "1y",
        *,
        fill: FillAt = "open",
        data: DataService | None = None,
        sessions: SessionFactory | None = None,
        settings: Settings | None = None,
        **params: Any,
    ) -> None:
        super().__init__(
            name, symbol, tickers, interval, period, fill=fill, settings=settings, **params
        )
        self._given_data = data
        self._sessions = sessions
        self._database_url: str | None = None  # None: the configured one
        self._rehearses = False  # dry run: nothing may be written

    # for decisions -----------------------------------------------------------------------

    @property
    def portfolio(self) -> dict[str, float]:
        """Return a copy of the portfolio, `{"USD": cash, "AAPL": quantity}`."""
        if self._account is not None and (self._replayed or is_deciding(self)):
            return super().portfolio
        with self.sessions() as session:
            return read_portfolio(session, self.name)

    def stored_forecast(
        self, horizon: int | None = None, *, model: str | None = None
    ) -> Forecast | None:
        """Return the stored forecast of `self.symbol` as of the current bar, or None.

        In a round only a forecast as of the newest complete bar counts. In a backtest it is the
        forecast made before the next bar opened, if there is one. Prices are restated to the scale
        of the current bars if a split lies between. The forecast must cover `horizon` days,
        KRONOS_HORIZON by default. Without `model` the newest forecast counts.
        """
        frame, end = self._bars_seen("stored_forecast is for decisions")
        as_of, close = frame.index[end - 1].to_pydatetime(), float(frame["close"].iloc[end - 1])
        in_past = in_backtest() or self._replayed
        replayed = next_open(self.symbol, as_of, self.interval) if in_past else None
        with self.sessions() as session:
            return latest_stored(
                session,
                self.symbol,
                interval=self.interval,
                horizon=horizon or self.settings.horizon,
                as_of=as_of,
                model_name=model,
                close_at=lambda _: close,
                made_until=replayed,
            )

    # one round ---------------------------------------------------------------------------

    def run(self, *, dry_run: bool = False) -> Round:
        """Run one round: fetch, trade earlier decisions that have opened, decide, log.

        Return the decisions and trades. Tickers without usable candles are skipped. An open fills a
        decision only once, so repeated or concurrent runs are safe. With `dry_run` nothing is
        written: the database is not created or upgraded, and no candles are cached.

        Raises:
            DataError: No ticker has usable candles.
            StrategyError, DatabaseError, ConfigError: Nothing was traded; see `run_logs`.
        """
        self._refuse_while_deciding("run")
        with self._rehearsing() if dry_run else self._one_at_a_time:
            return run_round(
                self,
                fetch=self.fetch_all,
                now=lambda: self.data.now(),
                look_up=self._look_up,
                sessions=self.sessions,
                dry_run=dry_run,
            )

    def backtest(
        self,
        history: Any = None,
        *,
        cash: float = 10_000.0,
        fill: FillAt | None = None,
    ) -> Backtest:
        """Replay the decisions over past bars, each traded at the next bar's open.

        With `fill="close"` they are traded at the close of their own bar, which is optimistic.
        Neither portfolio nor database is changed. See `tradingbot.bots.backtest`.

        Args:
            history: A frame, or frames by ticker; the bot's `period` is fetched by default.
        """
        self._refuse_while_deciding("backtest")
        with self._rehearsing():
            return run_backtest(self, self._replayable(history), cash, fill)

    def optimize(
        self,
        grid: Mapping[str, Iterable[Any]],
        history: Any = None,
        *,
        cash: float = 10_000.0,
        fill: FillAt | None = None,
        folds: int = 5,
    ) -> Optimization:
        """Backtest every combination of the grid, such as `{"window": [10, 20, 50]}`.

        Return the combination with the best Sharpe ratio, the number of trials, the deflated Sharpe
        ratio, and a walk-forward result: `folds` test windows, each with the parameters that were
        best before it. Other arguments as in `backtest`; see `tradingbot.bots.optimization`.
        """
        self._refuse_while_deciding("optimize")
        with self._rehearsing():
            bars = self._replayable(history)
            return optimize(self, grid, bars, cash=cash, fill=fill, folds=folds)

    def backtest_of(self, begin: datetime, end: datetime) -> Backtest:
        """Run the backtest over bars from `begin` (inclusive) to `end` (exclusive)."""
        with self._rehearsing():
            look_up = self._look_up()
            frames = {symbol: look_up.between(symbol, begin, end) for symbol in self.tickers}
            return self.backtest(look_up.with_actions(frames))

    def _replayable(self, history: Any) -> Any:
        if history is not None:
            return history
        return self._look_up().with_actions({symbol: self.fetch(symbol) for symbol in self.tickers})

    # manual trades -----------------------------------------------------------------------

    def buy(self, symbol: str, cash: float | None = None) -> Fill | None:
        """Buy for `cash` USD including costs, by default for all cash.

        Trades at once, at the close of the latest complete session. For bots that do not use
        decisions: not allowed inside decisionFunction.

        Raises:
            DataError: The newest bar is older than that session.
            TradeRefused: There is not enough cash.
        """
        symbol = ticker(symbol)
        with self._trading([symbol]) as account:
            return account.buy(symbol, cash)

    def sell(self, symbol: str, quantity: float | None = None) -> Fill | None:
        """Sell `quantity` units, by default all. Return None if none are held. Otherwise as `buy`.

        A ticker without a bar for DELISTED_AFTER sessions is closed at its last price, with a
        warning. Before that, `kronosbot portfolio close` closes it at a given price.
        """
        symbol = ticker(symbol)
        with self._trading([symbol]) as account:
            return account.sell(symbol, quantity) if symbol in account.prices else None

    def rebalance(self, weights: Mapping[str, float]) -> list[Fill]:
        """Trade until each ticker has its share of the value, such as `{"SPY": 0.6, "GLD": 0.4}`.

        Positions that are not named are sold; the rest stays cash. Otherwise as `buy`.
        """
        shares = {ticker(symbol): weight for symbol, weight in weights.items()}
        if len(shares) < len(weights):
            raise TradeRefused(f"weights {dict(weights)}: a ticker is listed twice")
        with self._trading({*shares, *self._held()}) as account:
            held = {symbol for symbol, amount in account.portfolio.items() if amount} - {CASH}
            account.rebalance({**dict.fromkeys(held, 0.0), **shares})
            return account.fills

    def _held(self) -> set[str]:
        return {symbol for symbol, amount in self.portfolio.items() if amount} - {CASH}

    @contextmanager
    def _trading(self, symbols: Iterable[str]) -> Iterator[Account]:
        """Yield the account at the newest closes; commit when the block ends without an error."""
        self._refuse_while_deciding("buy, sell and rebalance")
        held, look_up = self._held(), self._look_up()
        with self._one_at_a_time:
            frames = {symbol: look_up.frame(symbol) for symbol in symbols}
            with trading(self, frames, held, look_up, self.data.now(), self.sessions) as account:
                yield account

    def _look_up(self) -> TickerLookup:
        return TickerLookup(self.data, self.fetch, self.interval)

    # environment -------------------------------------------------------------------------

    @property
    def data(self) -> DataService:
        """Return the source of candles. Not available in a backtest: use `history`."""
        if in_backtest() or self._replayed:  # the latter covers the bot's own threads
            raise look_ahead("Bot.data", HISTORY)
        return self._data

    @cached_property
    def _data(self) -> DataService:
        if self._given_data is not None:
            return self._given_data
        return DataService(
            self.settings.data_source,
            horizon=self.settings.horizon,
            min_bars=1,
            sessions=self.sessions,
            timeouts=self.settings.timeouts,
            max_jump=self.settings.max_jump,
        )

    def sessions(self) -> AbstractContextManager[Session]:
        """Yield a session on the bot's database. Dry runs and backtests roll back."""
        if self._sessions is not None:
            return undone(self._sessions) if self._rehearses else self._sessions()
        opened = rehearsal_session if self._rehearses else get_db_session
        return opened(self._database_url)

    @contextmanager
    def _rehearsing(self) -> Iterator[None]:
        with self._one_at_a_time:
            before, self._rehearses = self._rehearses, True
            try:
                yield
            finally:
                self._rehearses = before

    def fetch(self, symbol: str) -> pd.DataFrame:
        """Return the complete bars of the period, newest last. DataError if there are none."""
        bars = bars_wanted(self._period_days, self.interval)
        frame = self.data.history(symbol, interval=self.interval, bars=bars)
        return in_period(frame, self._period_days)

    def fetch_all(self) -> dict[str, pd.DataFrame | DataError]:
        """Return `fetch` of each ticker, or its error, in parallel where that is faster."""
        count = bars_wanted(self._period_days, self.interval)
        found = dict(self.data.histories(self.tickers, interval=self.interval, bars=count))
        in_order = ((symbol, found[symbol]) for symbol in self.tickers)
        return {
            symbol: bars if isinstance(bars, DataError) else in_period(bars, self._period_days)
            for symbol, bars in in_order
        }
