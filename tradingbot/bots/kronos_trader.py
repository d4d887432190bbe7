"""A bot that trades on stored forecasts. Run it after `kronosbot` has made them.

    python -m tradingbot.kronostraderbot --source sample

It buys if a forecast's expected move exceeds a threshold and its uncertainty agrees, sells in the
opposite case, and prints each decision with its reason. Exit codes: those of `Bot.main`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from numbers import Integral, Real
from typing import Any

import pandas as pd

from tradingbot.bots.account import Account
from tradingbot.bots.bot import Bot
from tradingbot.bots.orders import next_open
from tradingbot.errors import ConfigError
from tradingbot.evaluation.track_record import crps_skill
from tradingbot.forecast import Forecast
from tradingbot.formatting import bar_text, price_text
from tradingbot.persistence.forecast_queries import newest_as_of, newest_model, newest_model_as_of
from tradingbot.runtime.lookahead import in_backtest, refuse_in_backtest
from tradingbot.settings import MAX_HORIZON


class KronosTraderBot(Bot):
    """Trades on forecasts stored as of the newest complete bar; older forecasts do not count.

    Only one model's forecasts count: `model`, or else the model of the newest forecast of any of
    the bot's tickers (in a backtest, the newest as of that bar). The forecast's last bar decides,
    `horizon` ahead (KRONOS_HORIZON by default). With the expected move until then

        move = predicted close / close - 1

    it buys if move >= `threshold`, P(up) >= `min_prob`, and the 10-90 % range extends further above
    the close than below. It sells if move <= -threshold, P(up) <= 1 - min_prob, and the range
    extends further below. Raises ConfigError for invalid values, such as a `threshold` below 0 or a
    `min_prob` below 0.5. Other keywords are those of `Bot`.

    With `min_skill` the move is that of the served median, which has a record, instead of Kronos'
    own mean. The bot then holds while the model's skill (1 - its CRPS ÷ a random walk's, see
    docs/concepts/scores.md) over the ticker's last 60 sessions, or fewer if there are fewer, is
    unknown or below `min_skill`. It also holds until the interval of the whole record, which is
    valid for nightly checks, is above `min_skill`. Today's record is not that of the past, so
    backtests refuse `min_skill`.
    """

    def __init__(
        self,
        name: str = "kronostraderbot",
        *args: Any,
        threshold: float = 0.005,
        min_prob: float = 0.55,
        horizon: int | None = None,
        model: str | None = None,
        min_skill: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(name, *args, **kwargs)
        self.threshold = _within("threshold", threshold, 0, 1)
        # below 0.5 it would both buy and sell
        self.min_prob = _within("min_prob", min_prob, 0.5, 1)
        self.horizon = self.settings.horizon if horizon is None else _bars(horizon)
        self.model = model
        self.min_skill = None if min_skill is None else _within("min_skill", min_skill, -10, 1)
        self._model: str | None = None  # the round's model

    @contextmanager
    def deciding(self, account: Account) -> Iterator[None]:
        if self.min_skill is not None:
            refuse_in_backtest("min_skill", "leave it out there")
        self._model = self.model or (None if in_backtest() else self._newest_model())
        self._bar: datetime | None = None  # the past bar that `_model` belongs to
        with super().deciding(account):
            yield

    def decisionFunction(self, row: pd.Series) -> int:
        if self.model is None and in_backtest():
            self._model = self._model_as_of(self.history.index[-1].to_pydatetime())
        forecast = self._model and self.stored_forecast(self.horizon, model=self._model)
        if not forecast:
            self.reason = self._why_none()
            return 0
        close, bar = float(row["close"]), forecast.bars[-1]
        # the record is about the served distribution, not Kronos' own mean
        expected = bar.close if self.min_skill is None else bar.close_quantiles[0.5]
        move = expected / close - 1
        low, high = bar.close_quantiles[0.1], bar.close_quantiles[0.9]
        self.reason = (
            f"{move:+.1%} expected by {bar_text(bar.target_date, self.interval)}, "
            f"P(up) {bar.prob_up:.0%}, 10-90 % range {price_text(low)} to {price_text(high)}"
        )
        further_up = high - close > close - low
        signal = 0
        if move >= self.threshold and bar.prob_up >= self.min_prob and further_up:
            signal = 1
        if move <= -self.threshold and bar.prob_up <= 1 - self.min_prob and not further_up:
            signal = -1
        if signal and (unearned := self._unearned(forecast)):
            self.reason += f"; {unearned}"
            return 0
        return signal

    def _unearned(self, forecast: Forecast) -> str | None:
        """Return why the model's record does not allow a trade, or None if it does."""
        if self.min_skill is None:
            return None
        with self.sessions() as session:
            skill = crps_skill(
                session,
                forecast.symbol,
                model=forecast.model_name,
                revision=forecast.model_revision,
                interval=forecast.interval,
            )
        if skill is None:
            return "holding: no skill score yet (run `kronosbot score`)"
        if skill.value < self.min_skill:
            return f"holding: the model's skill is {skill.value:+.2f} ({skill.where})"
        if skill.at_least is None:
            return "holding: too few sessions for a certain skill (run `kronosbot score`)"
        if skill.at_least < self.min_skill:
            return (
                f"holding: the model's skill is {skill.value:+.2f} ({skill.where}), but only "
                f"{skill.at_least:+.2f} is certain ({skill.shown_by})"
            )
        return None

    def _newest_model(self) -> str | None:
        with self.sessions() as session:
            return newest_model(session, self.tickers, interval=self.interval)

    def _model_as_of(self, bar: datetime) -> str | None:
        if bar == self._bar:  # the same for each ticker
            return self._model
        self._bar = bar
        made_until = next_open(self.symbol, bar, self.interval)
        with self.sessions() as session:
            return newest_model_as_of(
                session, self.tickers, interval=self.interval, bar=bar, made_until=made_until
            )

    def _why_none(self) -> str:
        """Return why there is no forecast to decide on."""
        bar = self.history.index[-1].to_pydatetime()
        with self.sessions() as session:
            newest = newest_as_of(
                session,
                self.symbol,
                interval=self.interval,
                model_name=self._model,
                until=bar,
            )
        if newest is None:
            return "no stored forecast; kronosbot makes them"
        if newest == bar:
            return f"its forecast does not reach {self.horizon} bars ahead"
        return f"its newest forecast, of {bar_text(newest, self.interval)}, is too old"


def _within(name: str, value: float, low: float, high: float) -> float:
    if isinstance(value, Real) and low <= value <= high:  # also refuses nan
        return float(value)
    raise ConfigError(f"{name}={value!r}: expected a number from {low} to {high}")


def _bars(horizon: int) -> int:
    if isinstance(horizon, Integral) and 1 <= horizon <= MAX_HORIZON:
        return int(horizon)
    raise ConfigError(f"horizon={horizon!r}: expected a whole number from 1 to {MAX_HORIZON}")
