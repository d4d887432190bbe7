"""The Forecast value object: a forecast computed by the Space, or read from the database."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from tradingbot.charts import fan_chart
from tradingbot.combination_shares import CONFORMAL as CONFORMAL
from tradingbot.combination_shares import KRONOS as KRONOS
from tradingbot.combination_shares import RAW as RAW
from tradingbot.errors import ConfigError, DataError
from tradingbot.formatting import model_text
from tradingbot.install_command import install_command
from tradingbot.json_time import JsonTime
from tradingbot.path_events.event_probabilities import EventChance

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go


QUANTILE_LEVELS = tuple(round(0.05 * i, 2) for i in range(1, 20))  # 0.05, 0.1 … 0.95
LEVELS = (0.1, 0.5, 0.9)  # default quantile levels of a frame
FAN = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)  # quantile levels of a chart
# suffix of the revision of forecasts whose paths are anchored at the last close
ANCHORED = "+anchored"


@dataclass(frozen=True)
class ForecastBar:
    """The forecast of one bar. Prices are in the ticker's currency; `target_date` is naive UTC."""

    step: int  # bars ahead: 1 = the next bar
    target_date: datetime
    open: float
    high: float
    low: float
    close: float  # mean over the sample paths, like open, high, low and volume
    volume: float
    close_quantiles: Mapping[float, float]  # level (as in QUANTILE_LEVELS) -> price; ascending
    prob_up: float  # probability of a close above `last_close`, from `close_quantiles`
    raw: "ForecastBar | None" = None  # the model's own forecast, if the quantiles were changed
    # the model's own quantiles, calibrated, if `close_quantiles` are combined with other forecasts
    calibrated: Mapping[float, float] | None = None

    def quantile(self, level: float) -> float:
        """Return the price of a quantile, interpolated between the levels.

        Raise ValueError beyond the outermost levels, where there are too few paths.
        """
        levels, prices = list(self.close_quantiles), list(self.close_quantiles.values())
        if not levels[0] <= level <= levels[-1]:
            raise ValueError(f"level {level!r}: expected {levels[0]} to {levels[-1]}")
        return float(np.interp(level, levels, prices))

    @property
    def is_outside(self) -> bool:
        """Return whether Kronos' mean close is outside the 10-90 % band."""
        return not self.close_quantiles[0.1] <= self.close <= self.close_quantiles[0.9]

    def times(self, scale: float) -> "ForecastBar":
        """Return the bar with prices multiplied by `scale`, and the volume divided by `scale`."""
        return replace(
            self,
            open=self.open * scale,
            high=self.high * scale,
            low=self.low * scale,
            close=self.close * scale,
            volume=self.volume and self.volume / scale,  # the first published schema has None
            close_quantiles=_times(self.close_quantiles, scale),
            raw=self.raw and self.raw.times(scale),
            calibrated=self.calibrated and _times(self.calibrated, scale),
        )


@dataclass(frozen=True)
class Reconstruction:
    """The last close after it was encoded and decoded by the model's tokenizer."""

    close: float  # start of the model's own paths; may be 0 or less
    factor: float  # factor applied to the paths' prices: last_close ÷ close, or 1

    def error(self, last_close: float) -> float:
        """Return the error of the reconstructed close, as a share of `last_close`."""
        return abs(self.close / last_close - 1)


@dataclass(frozen=True)
class Forecast:
    """A forecast of the next bars of one ticker, made by one model from the bars up to `as_of`."""

    symbol: str
    interval: str
    model_name: str
    model_revision: str | None  # see `recorded_revision`
    as_of: datetime  # time of the newest bar that the model saw
    made_at: datetime  # when the forecast was computed, naive UTC
    last_close: float
    samples: int
    seed: int | None
    bars: tuple[ForecastBar, ...]
    warnings: tuple[str, ...] = ()
    bars_hash: str = ""  # hash of the candles that the model saw; "" if unknown
    calibration: str = RAW  # RAW, or the post-processing that produced `close_quantiles`
    # shares of combined quantiles: forecaster -> mean over the bars; they sum to 1
    shares: Mapping[str, float] | None = None
    # None if the Space is too old to anchor paths, or the forecast was read from the database
    reconstruction: Reconstruction | None = None
    # Sample paths, float64, (samples, horizon, [open, high, low, close, volume]). They are never
    # calibrated, and None unless requested.
    paths: np.ndarray | None = field(default=None, compare=False, repr=False)
    # past closes up to `last_close`, with their times, for charts
    recent: tuple[tuple[datetime, float], ...] = field(default=(), compare=False, repr=False)
    # for each requested event, the probability that it happens by the end of each bar
    events: tuple[EventChance, ...] = ()

    @property
    def horizon(self) -> int:
        return len(self.bars)

    def restated(self, close: float | None) -> "Forecast":
        """Return the forecast with prices scaled so that `last_close` becomes `close`.

        After a split, a source adjusts past candles, so the `as_of` bar has a different close than
        when the forecast was made. The forecast is unchanged if `close` is None.
        """
        scale = price_scale(self.last_close, close)
        if scale == 1:
            return self
        bars = tuple(bar.times(scale) for bar in self.bars)
        by = np.array([scale, scale, scale, scale, 1 / scale])
        paths = None if self.paths is None else self.paths * by
        recent = tuple((time, price * scale) for time, price in self.recent)
        return replace(
            self, last_close=self.last_close * scale, bars=bars, paths=paths, recent=recent
        )

    @property
    def kronos_share(self) -> float:
        """Return the share of Kronos in the quantiles, which is 1 if they are not combined."""
        return 1.0 if self.shares is None else self.shares.get(KRONOS, 0.0)

    def uncombined(self) -> "Forecast":
        """Return the forecast with Kronos' own quantiles, calibrated if these are stored.

        Raises:
            DataError: Only the combined quantiles are stored.
        """
        if self.shares is None:
            return self
        if any(bar.raw is None for bar in self.bars):
            raise DataError(
                "Kronos' own quantiles of this forecast are not stored, only the combined ones",
                symbol=self.symbol,
            )
        calibrated = all(bar.calibrated is not None for bar in self.bars)
        return replace(
            self,
            bars=tuple(_uncombined(bar, self.last_close) for bar in self.bars),
            calibration=CONFORMAL if calibrated else RAW,
            shares=None,
        )

    def to_frame(
        self, source: str | None = None, *, levels: Iterable[float] = LEVELS
    ) -> "pd.DataFrame":
        """Return one row per future bar, with a column for each quantile level of the close.

        Each event has a column with its probability by the end of the bar. `attrs` holds metadata
        of the forecast as JSON-compatible values, and `source` ("space" or "stored").
        """
        import pandas as pd  # imported here because the import takes a third of a second

        frame = pd.DataFrame(
            {
                "target_date": pd.DatetimeIndex([bar.target_date for bar in self.bars]),
                "open": [bar.open for bar in self.bars],
                "high": [bar.high for bar in self.bars],
                "low": [bar.low for bar in self.bars],
                "close": [bar.close for bar in self.bars],
                "volume": [bar.volume for bar in self.bars],
                **{
                    quantile_column(level): [bar.quantile(level) for bar in self.bars]
                    for level in levels
                },
                "prob_up": [bar.prob_up for bar in self.bars],
                "kronos_share": self.kronos_share,
                **{chance.event: chance.probability for chance in self.events},
            }
        )
        frame.attrs = {
            "source": source,
            "symbol": self.symbol,
            "as_of": JsonTime(self.as_of),
            "model": self.model_name,
            "model_revision": self.model_revision,
            "last_close": self.last_close,
            "samples": self.samples,
            "calibration": self.calibration,
            "reconstruction": None if self.reconstruction is None else asdict(self.reconstruction),
            "shares": None if self.shares is None else dict(self.shares),
        }
        return frame

    def plot(self) -> "go.Figure":
        """Return a plotly figure of recent closes, the median and its bands.

        Raise ConfigError if plotly is not installed.
        """
        known = self.bars[0].close_quantiles
        bands = {
            level: [bar.quantile(level) for bar in self.bars] for level in FAN if level in known
        }
        try:
            return fan_chart(
                [self.as_of, *(bar.target_date for bar in self.bars)],
                {level: [self.last_close, *prices] for level, prices in bands.items()},
                recent=self.recent,
                title=self.caption,
            )
        except ImportError as error:
            raise ConfigError(
                f"the package plotly is missing: {install_command('plot')}"
            ) from error

    @property
    def caption(self) -> str:
        """Describe the forecast in one line: ticker, date and model."""
        bands = "raw bands" if self.calibration == RAW else f"bands {self.calibration}"
        as_of = (
            f"{self.as_of:%Y-%m-%d}" if self.interval == "1d" else f"{self.as_of:%Y-%m-%d %H:%M}"
        )
        return (
            f"Kronos forecast of {self.symbol}, {self.interval}, as of {as_of} "
            f"by {model_text(self.model_name)}: {self.samples} paths, {bands}"
        )

    def _repr_html_(self) -> str:
        """Return the HTML that a notebook shows."""
        return as_html(self.caption, self.to_frame())


def as_html(caption: str, frame: "pd.DataFrame") -> str:
    """Return a frame of forecasts as HTML below its caption, with rounded numbers."""
    whole = "{:,.0f}".format
    table = frame.to_html(float_format="{:,.6g}".format, formatters={"volume": whole})
    return f"<p>{escape(caption)}</p>{table}"


def quantile_column(level: float) -> str:
    """Return the column name of a level: close_p10 for 0.1, close_p2.5 for 0.025."""
    return f"close_p{round(100 * level, 6):g}"


def _times(quantiles: Mapping[float, float], scale: float) -> dict[float, float]:
    return {level: price * scale for level, price in quantiles.items()}


def price_scale(last_close: float | None, close: float | None) -> float:
    """Return the factor that converts prices of a forecast from `last_close` to `close`.

    The factor is 1 if one of the closes is unknown. Scoring does not need the factor: it divides
    each price by the close in the same scale, which is equivalent.
    """
    return close / last_close if close and last_close and close > 0 else 1.0


def recorded_revision(revision: str | None, *, anchored: bool) -> str | None:
    """Return the revision under which forecasts are stored, scored and calibrated.

    Anchored forecasts, whose paths start at the last close, have a revision of their own, so that
    they are scored separately: "f4e68697+anchored" instead of "f4e68697".
    """
    return (revision or "") + ANCHORED if anchored else revision


def short_revision(revision: str) -> str:
    """Return the first 12 digits of a revision, with the suffix ANCHORED if it has one."""
    return revision.removesuffix(ANCHORED)[:12] + ANCHORED * revision.endswith(ANCHORED)


def _uncombined(bar: ForecastBar, last_close: float) -> ForecastBar:
    if bar.calibrated is None:
        return bar.raw or bar
    prob_up = prob_above(bar.calibrated, last_close)
    return replace(bar, close_quantiles=bar.calibrated, prob_up=prob_up, calibrated=None)


def prob_above(quantiles: Mapping[float, float], price: float) -> float:
    """Return the probability of a close above `price`, interpolated between the quantiles.

    For a price outside all quantiles, return the middle of the remaining range: 2.5 or 97.5 %.
    """
    levels, prices = list(quantiles), list(quantiles.values())
    beyond = levels[0] / 2
    return 1 - float(np.interp(price, prices, levels, left=beyond, right=1 - beyond))
