"""A bot that trades on the stored forecasts: run it after `kronosbot` has made them.

    python -m tradingbot.kronostraderbot --source sample

It buys where a forecast's expected move clears a threshold and its uncertainty agrees, sells
likewise, and prints each decision with its reason. Exit codes: those of `Bot.main`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tradingbot.utils.botclass import Bot
from tradingbot.utils.signals import exit_on_signals
from tradingbot.utils.words import bar_text, price_text

if TYPE_CHECKING:
    import pandas as pd

    from tradingbot.utils.portfolio import Account

SAME_CLOSE = 0.01  # a forecast from a close further off than this was made from other candles


class KronosTraderBot(Bot):
    """Trades on what the job has stored as of the newest complete bar: no older forecast counts.

    Only one model's forecasts count: `model`, else the one that made the newest forecast of any
    of the bot's tickers. Of a forecast the last bar counts, `horizon` ahead (KRONOS_HORIZON by
    default). With the move expected until then

        move = predicted close / close - 1

    it buys where move >= `threshold`, P(up) >= `min_prob`, and the 10-90 % range reaches further
    up from the close than down; it sells where move <= -threshold, P(up) <= 1 - min_prob, and
    the range reaches further down. Other keywords are those of `Bot`.
    """

    def __init__(
        self,
        name: str = "kronostraderbot",
        *args: Any,
        threshold: float = 0.005,
        min_prob: float = 0.55,
        horizon: int | None = None,
        model: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(name, *args, **kwargs)
        self.threshold = threshold
        self.min_prob = min_prob
        self.horizon = horizon or self.settings.horizon
        self.model = model
        self._model: str | None = None  # the round's one model

    @contextmanager
    def deciding(self, account: "Account") -> Iterator[None]:
        self._model = self.model or self._newest_model()
        with super().deciding(account):
            yield

    def decisionFunction(self, row: "pd.Series") -> int:
        forecast = self._model and self.stored_forecast(self.horizon, model=self._model)
        if not forecast:
            self.reason = self._why_none(row)
            return 0
        close, bar = float(row["close"]), forecast.bars[-1]
        if abs(forecast.last_close / close - 1) > SAME_CLOSE:
            made_from = price_text(forecast.last_close)
            self.reason = f"its forecast was made from a close of {made_from}: other candles"
            return 0
        move = bar.close / close - 1
        low, high = bar.close_quantiles[0.1], bar.close_quantiles[0.9]
        self.reason = (
            f"{move:+.1%} expected by {bar_text(bar.target_date, self.interval)}, "
            f"P(up) {bar.prob_up:.0%}, 10-90 % range {price_text(low)} to {price_text(high)}"
        )
        further_up = high - close > close - low
        if move >= self.threshold and bar.prob_up >= self.min_prob and further_up:
            return 1
        if move <= -self.threshold and bar.prob_up <= 1 - self.min_prob and not further_up:
            return -1
        return 0

    def _newest_model(self) -> str | None:
        """The model whose forecast was made last, of any of the bot's tickers."""
        from sqlalchemy import select

        from tradingbot.utils.tables import KronosPrediction as Row

        with self.sessions() as session:
            return session.scalar(
                select(Row.model_name)
                .where(Row.symbol.in_(self.tickers), Row.interval == self.interval)
                .order_by(Row.prediction_made_at.desc(), Row.model_name)
                .limit(1)
            )

    def _why_none(self, row: "pd.Series") -> str:
        from sqlalchemy import func, select

        from tradingbot.utils.tables import KronosForecast as Row

        with self.sessions() as session:
            newest = session.scalar(
                select(func.max(Row.as_of)).where(
                    Row.symbol == self.symbol,
                    Row.interval == self.interval,
                    Row.model_name == self._model,
                    Row.as_of <= row.name,
                )
            )
        if newest is None:
            return "no stored forecast; kronosbot makes them"
        if newest == row.name:
            return f"its forecast does not reach {self.horizon} bars ahead"
        return f"its newest forecast is of {bar_text(newest, self.interval)}, and too old"


def main() -> None:
    """The command. Its options are in `tradingbot.utils.trader_cli`."""
    exit_on_signals()
    from tradingbot.utils.trader_cli import command  # takes a while, in which Ctrl-C may come

    command()


if __name__ == "__main__":
    main()
