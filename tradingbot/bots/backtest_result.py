"""Result of a backtest: statistics, curves and trades, as table, frames and chart."""

from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from tradingbot.bots.performance import PerformanceStats
from tradingbot.bots.strategy import FillAt
from tradingbot.errors import ConfigError
from tradingbot.install_command import install_command


@dataclass(frozen=True)
class Backtest:
    """Result of a backtest. `str()` gives a short table."""

    equity: pd.Series  # USD at each close, indexed by bar time
    trades: pd.DataFrame  # time, symbol, side, quantity, price, costs, pnl (of sales)
    measures: PerformanceStats
    hit_rate: float
    buy_and_hold: PerformanceStats  # all tickers evenly, each bought as soon as the bot could
    curves: pd.DataFrame  # USD at each close: equity, invested, buy_and_hold
    fill: FillAt = "open"  # fill at the next bar's "open", or at the "close" (optimistic)
    dividends: pd.DataFrame = field(default_factory=pd.DataFrame)  # time, symbol, quantity, amount
    notes: list[str] = field(default_factory=list)  # how splits and delistings were treated

    def __str__(self) -> str:
        first, last = self.equity.index[0], self.equity.index[-1]
        rows = [
            f"{first:%Y-%m-%d} to {last:%Y-%m-%d}: {len(self.trades)} trades, "
            f"{_share(self.hit_rate)} of the sales at a profit"
            + (", filled at the closes that were decided on: optimistic" * (self.fill == "close")),
            f"{'':14}{'this bot':>12}{'buy and hold':>14}",
        ]
        for name in ("total_return", "yearly_return", "sharpe", "max_drawdown"):
            bot, market = getattr(self.measures, name), getattr(self.buy_and_hold, name)
            show = (lambda value: f"{value:.2f}") if name == "sharpe" else _share
            rows.append(f"{name.replace('_', ' '):14}{show(bot):>12}{show(market):>14}")
        return "\n".join(rows)

    @property
    def exposure(self) -> float:
        """Return the invested share of the equity, averaged over bars."""
        return float((self.curves["invested"] / self.equity).mean())

    @property
    def turnover(self) -> float:
        """Return the value of all purchases and sales as a multiple of the average equity."""
        return float((self.trades["quantity"] * self.trades["price"]).sum() / self.equity.mean())

    def to_frame(self) -> pd.DataFrame:
        """Return rows by bar: equity, invested, buy_and_hold (USD); drawdown, exposure (shares)."""
        drawdown = 1 - self.equity / self.equity.cummax()
        return self.curves.assign(drawdown=drawdown, exposure=self.curves["invested"] / self.equity)

    def plot(self) -> Any:
        """Return a plotly figure of equity and trades, buy-and-hold, and the drawdown.

        Raises ConfigError if plotly, an optional extra, is missing.
        """
        try:
            from plotly.subplots import make_subplots  # slow, and optional
        except ImportError as error:
            raise ConfigError(f"plot() needs plotly: {install_command('plot')}") from error
        frame = self.to_frame()
        figure = make_subplots(rows=2, shared_xaxes=True, row_heights=[0.75, 0.25])
        for name, title in (("equity", "this bot"), ("buy_and_hold", "buy and hold")):
            figure.add_scatter(x=frame.index, y=frame[name], name=title, row=1, col=1)
        for side, sign in (("buy", "triangle-up"), ("sell", "triangle-down")):
            done = self.trades[self.trades["side"] == side]
            figure.add_scatter(
                x=done["time"],
                y=self.equity.reindex(done["time"]),
                text=done["symbol"],
                name=side,
                mode="markers",
                marker={"symbol": sign, "size": 9},
                row=1,
                col=1,
            )
        figure.add_scatter(
            x=frame.index, y=-frame["drawdown"], name="drawdown", fill="tozeroy", row=2, col=1
        )
        figure.update_yaxes(title_text="USD", row=1, col=1)
        figure.update_yaxes(tickformat=".0%", row=2, col=1)
        return figure


def _share(value: float) -> str:
    return f"{value:.1%}"
