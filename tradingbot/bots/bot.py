"""The base class of bots: it decides on the newest complete bars, and trades on paper.

    class MyBot(Bot):
        def decisionFunction(self, row):
            return 1 if row["close"] > self.history["close"].tail(50).mean() else -1

    MyBot("my-bot", tickers=["SPY", "GLD"]).run()

What is decided is traded at the open of the next bar; costs are KRONOS_SLIPPAGE_BPS of the value.
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

    Write `decisionFunction`; `run` does one round, `backtest` replays the past, `main` is a round
    as a command. `name` is the bot's in the tables `bots`, `trades` and `run_logs`. It watches
    `symbol`, or all `tickers`, in bars of `interval` (1d, or minutes and hours: 15m, 1h), and sees
    the `period` before the newest one (10d, 4wk, 6mo, 1y, max). Its decisions are traded at the
    open of the next bar; with `fill="close"`, which is optimistic, at the close that they are made
    on. Other keywords are the strategy's, in `self.params`.

    `data`, `sessions` and `settings` replace what the environment says: KRONOS_DATA_SOURCE, the
    database's address, KRONOS_SLIPPAGE_BPS. ConfigError for a bot without tickers, and the like.
    """

    _own = Strategy._own | {"_data"}  # which is made again where it is needed

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
        self._database_url: str | None = None  # where it is not the configured one
        self._rehearses = False  # whether nothing may be written now

    # for decisions -----------------------------------------------------------------------

    @property
    def portfolio(self) -> dict[str, float]:
        """What the bot owns, `{"USD": cash, "AAPL": quantity}`: a copy."""
        if self._account is not None and (self._replayed or is_deciding(self)):
            return super().portfolio
        with self.sessions() as session:
            return read_portfolio(session, self.name)

    def stored_forecast(
        self, horizon: int | None = None, *, model: str | None = None
    ) -> Forecast | None:
        """The forecast of `self.symbol` that was stored as of the bar that is decided on, or None.

        In a round that is the newest complete bar: no older forecast counts. In a backtest it is
        what was believed before the next bar opened, if anything was. Prices are of the scale of
        the bars that are decided on, also where a split lies between the two. `horizon` days must
        be there, KRONOS_HORIZON by default; without a `model` the forecast made last counts.
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
                believed=replayed,
            )

    # one round ---------------------------------------------------------------------------

    def run(self, *, dry_run: bool = False) -> Round:
        """Fetch, trade what was decided and has opened since, decide, log: once.

        What was decided and done is returned. A ticker without usable candles is left out, and the
        others go on; DataError if none is left. One open fills one decision, so a second run and a
        second process do no harm. Whatever is raised, nothing was traded, and `run_logs` says why:
        StrategyError, DatabaseError, ConfigError. With `dry_run` nothing is written: no database is
        made or upgraded, and no candles are kept.
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
        """The same decisions over past bars: what is decided on one is traded at the next's open.

        With `fill="close"`, here or of the bot, it is traded at the close of the bar that was
        decided on, which is optimistic.

        `history` is a frame (one ticker), a mapping of one a ticker, or a frame of yfinance with
        all of them; without it, the bot's `period` is
        fetched. Neither portfolio nor database is changed. See `tradingbot.bots.backtest`.
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
        """Replay every combination of the grid, `{"window": [10, 20, 50]}`, over one history.

        The best by its Sharpe ratio comes with the number of trials and the deflated ratio, and
        with a walk forward: `folds` windows, each with the parameters that were best before it.
        Otherwise as `backtest`; see `tradingbot.bots.optimization`.
        """
        self._refuse_while_deciding("optimize")
        with self._rehearsing():
            bars = self._replayable(history)
            return optimize(self, grid, bars, cash=cash, fill=fill, folds=folds)

    def backtest_of(self, begin: datetime, end: datetime) -> Backtest:
        """The backtest over the bars from `begin` on and before `end`: what `--backtest` does."""
        with self._rehearsing():
            look_up = self._look_up()
            frames = {symbol: look_up.between(symbol, begin, end) for symbol in self.tickers}
            return self.backtest(look_up.with_actions(frames))

    def _replayable(self, history: Any) -> Any:
        if history is not None:
            return history
        return self._look_up().with_actions({symbol: self.fetch(symbol) for symbol in self.tickers})

    # your own trades ---------------------------------------------------------------------

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
        """Sell `quantity` units; by default all, None if there are none. As `buy` otherwise.

        What has had no bar for DELISTED_AFTER sessions is closed at its last price, and a warning
        says so; before that, `kronosbot portfolio close` takes a price given by hand.
        """
        symbol = ticker(symbol)
        with self._trading([symbol]) as account:
            return account.sell(symbol, quantity) if symbol in account.prices else None

    def rebalance(self, weights: Mapping[str, float]) -> list[Fill]:
        """Bring the whole portfolio to these shares, `{"SPY": 0.6, "GLD": 0.4}`.

        What is held and not named is sold; what is missing to 1 stays cash. As `buy` otherwise.
        """
        shares = {ticker(symbol): weight for symbol, weight in weights.items()}
        if len(shares) < len(weights):
            raise TradeRefused(f"weights {dict(weights)}: a ticker stands there twice")
        with self._trading({*shares, *self._held()}) as account:
            others = {symbol for symbol, amount in account.portfolio.items() if amount} - {CASH}
            account.rebalance({**dict.fromkeys(others, 0.0), **shares})
            return account.fills

    def _held(self) -> set[str]:
        return {symbol for symbol, amount in self.portfolio.items() if amount} - {CASH}

    @contextmanager
    def _trading(self, symbols: Iterable[str]) -> Iterator[Account]:
        """The account at the newest closes; saved as one transaction when the block ends well."""
        self._refuse_while_deciding("buy, sell and rebalance")
        held, look_up = self._held(), self._look_up()
        with self._one_at_a_time:
            frames = {symbol: look_up.frame(symbol) for symbol in symbols}
            with trading(self, frames, held, look_up, self.data.now(), self.sessions) as account:
                yield account

    def _look_up(self) -> TickerLookup:
        return TickerLookup(self.data, self.fetch, self.interval)

    # its surroundings --------------------------------------------------------------------

    @property
    def data(self) -> DataService:
        """Where the candles come from. In a backtest it is refused: see `history`."""
        if in_backtest() or self._replayed:  # the latter also for threads of the bot's own
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
        """A session on the bot's database. In a dry run and a backtest its writes are undone."""
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
        """The complete bars of the bot's period, the newest last; DataError if there are none."""
        bars = bars_wanted(self._period_days, self.interval)
        frame = self.data.history(symbol, interval=self.interval, bars=bars)
        return in_period(frame, self._period_days)

    def fetch_all(self) -> dict[str, pd.DataFrame | DataError]:
        """`fetch` of each ticker, several at a time where that is faster, or why there is none."""
        count = bars_wanted(self._period_days, self.interval)
        found = dict(self.data.histories(self.tickers, interval=self.interval, bars=count))
        in_order = ((symbol, found[symbol]) for symbol in self.tickers)
        return {
            symbol: bars if isinstance(bars, DataError) else in_period(bars, self._period_days)
            for symbol, bars in in_order
        }
