"""The files of a backtest: one row per forecast and step, with the realised close.

    symbol,interval,as_of,target,step,last_close,close,q05,…,q95,prob_up,anchor_factor,
    actual,in_training,seed,
    model,revision,source,until,horizon,stride,context,samples,temperature,top_p

Prices are in the ticker's currency. `actual` is empty if the session of `target` has no bar.
`anchor_factor` is the factor that multiplied the model's prices. The last ten columns are the same
in all rows: a file holds forecasts of one model with one set of settings.

A second file, backtest.closes.csv, has the bars from two years before the first window on, which
random walks and other experts need. In memory the bars are rows of step 0 with the closes in
`actual`. Files of earlier versions also store the bars as such rows. When such a file is resumed,
it keeps its columns.

Rows are appended in whole windows. When a file is resumed, an unfinished window at its end, left by
a crash, is removed.
"""

import os
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pandas as pd

from tradingbot.errors import ConfigError
from tradingbot.evaluation.close_outcomes import ForecastOutcomes
from tradingbot.evaluation.training_cutoff import InTraining, in_training
from tradingbot.forecast import QUANTILE_LEVELS, Forecast
from tradingbot.walk_forward.appended_csv import AppendedCsv
from tradingbot.walk_forward.schema import (
    CLOSES,
    COLUMNS,
    QUANTILES,
    closes_path,
    parsed,
    parsed_closes,
    rows_of,
    settings_of,
)

PAST = 501  # number of bars stored before the first window, which have 500 returns
INTERVAL = "1d"
_RESTATED = 1e-3  # a close that changed by more than this share counts as restated


class ResultsFile:
    """A backtest's files, for appending. `settings` are those of existing rows, or {}."""

    def __init__(self, path: Path) -> None:
        """Read existing files without changing them. Raise ConfigError for any other file."""
        self.path = path
        self._made = AppendedCsv(path, COLUMNS)
        self._bars = AppendedCsv(closes_path(path), CLOSES)
        self._rows = parsed(path, self._made.content)
        self.settings = settings_of(self._rows)
        rows = self._rows
        if len(rows):  # bars are useless if the file of forecasts is missing
            bars = parsed_closes(self._bars.path, self._bars.content, self.settings)
            rows = pd.concat([rows, bars], ignore_index=True)
        horizon = int(self.settings.get("horizon") or 0)
        forecasts = rows[rows["step"] > 0]
        steps = forecasts.groupby(["symbol", "as_of"])["step"].nunique()
        self._done = set(steps[steps == horizon].index)
        closes = rows[rows["step"] == 0]
        self._closes = {
            (symbol, day): close
            for symbol, day, close in zip(
                closes["symbol"], closes["as_of"], closes["actual"], strict=True
            )
        }

    def has(self, symbol: str, as_of: datetime) -> bool:
        """Return whether all steps of this window's forecast are in the file."""
        return (symbol, _day(as_of)) in self._done

    def check_place(self) -> None:
        """Raise ConfigError if the file cannot be appended to. Changes nothing."""
        place = self.path if self.path.exists() else self.path.parent
        if not place.exists():
            raise ConfigError(f"{self.path} cannot be written: there is no folder {place}")
        if not os.access(place, os.W_OK):
            raise ConfigError(f"{self.path} cannot be written: no permission; give another --out")

    def check(self, settings: Mapping[str, str]) -> None:
        """Raise ConfigError if existing rows have other settings."""
        if other := [
            f"{name} {self.settings[name] or 'unknown'}, now {wanted or 'unknown'}"
            for name, wanted in settings.items()
            if self.settings and self.settings[name] != wanted
        ]:
            raise ConfigError(
                f"{self.path} was made with other settings ({'; '.join(other)}): "
                "give the same settings, or another --out"
            )

    def open_for(self, settings: Mapping[str, str]) -> Self:
        """Open the files for forecasts made with `settings`. Call `close` at the end."""
        self.check(settings)
        self.settings = dict(settings)
        self._made.open(keep=self._finished())
        try:
            self._bars.open(keep=None if len(self._rows) else 0)
        except ConfigError:
            self._made.close()
            raise
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bars.close()
        self._made.close()

    def add_closes(self, symbol: str, closes: pd.Series, bars: pd.DataFrame | None = None) -> None:
        """Append bars of a ticker by day, skipping days that the file has.

        Args:
            bars: Open, high and low of the same days, if known.

        Raises:
            ConfigError: The bars differ from those of the file, which must not mix prices from
                before and after a split.
        """
        missing = []
        ranges = [{}] * len(closes) if bars is None else _ranges(bars)
        for day, close, of_day in zip(map(_day, closes.index), closes, ranges, strict=True):
            before = self._closes.get((symbol, day))
            if before is None:
                self._closes[symbol, day] = close
                missing.append({"as_of": day, **of_day, "close": _number(close)})
            elif abs(before / close - 1) > _RESTATED:
                raise ConfigError(
                    f"{self.path} has {symbol} at {before:g} on {day}, now it is {close:g}: its "
                    "candles were restated since, as by a split; give another --out"
                )
        self._bars.append({"symbol": symbol, "interval": INTERVAL, **bar} for bar in missing)

    def add(self, made: Iterable[tuple[Forecast, Mapping[datetime, float]]]) -> None:
        """Append forecasts with their realised closes by target."""
        made = list(made)
        rows = (row for forecast, closes in made for row in _rows_of(forecast, closes))
        self._made.append({**row, **self.settings} for row in rows)
        self._done |= {(forecast.symbol, _day(forecast.as_of)) for forecast, _ in made}

    def _finished(self) -> int:
        """Return how many lines precede an unfinished window at the end."""
        count = len(self._rows)
        rows = zip(self._rows["symbol"], self._rows["as_of"], self._rows["step"], strict=True)
        for symbol, as_of, step in reversed(list(rows)):
            if step == 0 or (symbol, as_of) in self._done:
                break
            count -= 1
        return count + 1  # plus the header


def read_rows(path: Path) -> pd.DataFrame:
    """Return all rows of a backtest file, at least one. Raises ConfigError if it is not one."""
    rows = rows_of(path)
    if rows.empty:
        what = "has no forecasts" if path.exists() else "is not there"
        raise ConfigError(f"{path} {what}; `kronosbot backtest` makes such files")
    return rows


def outcomes_of(
    rows: pd.DataFrame, *, trained_on: Collection[InTraining] | None = None
) -> list[ForecastOutcomes]:
    """Return the forecasts with an outcome, ticker by ticker.

    Args:
        trained_on: Keep only rows with one of these values of in_training.
    """
    closes = rows[rows["step"] == 0]
    scored = _forecasts(rows)
    scored = scored[scored["actual"].notna()]
    if trained_on is not None:
        scored = scored[scored["in_training"].isin(trained_on)]
    scored = scored.sort_values(["symbol", "as_of", "step"])
    found = []
    keys = ["symbol", "model", "revision", "interval"]
    for (symbol, model, revision, interval), ticker_rows in scored.groupby(keys):
        past = closes[closes["symbol"] == symbol].drop_duplicates("as_of").sort_values("as_of")
        scale = ticker_rows["last_close"].to_numpy()
        quantiles = ticker_rows[QUANTILES].to_numpy() / scale[:, None]
        found.append(
            ForecastOutcomes(
                symbol=str(symbol),
                model_name=str(model),
                model_revision=str(revision),
                interval=str(interval),
                as_of=ticker_rows["as_of"].to_numpy().astype("datetime64[s]"),
                target=ticker_rows["target"].to_numpy().astype("datetime64[s]"),
                step=ticker_rows["step"].to_numpy().astype("int64"),
                mean=ticker_rows["close"].to_numpy() / scale,
                quantiles=quantiles,
                raw_quantiles=quantiles,
                prob_up=ticker_rows["prob_up"].to_numpy(),
                actual=ticker_rows["actual"].to_numpy() / scale,
                past=pd.Series(past["actual"].to_numpy(), pd.DatetimeIndex(past["as_of"])),
            )
        )
    return found


def training_counts(rows: pd.DataFrame) -> dict[str, int]:
    """Count forecasts with an outcome by in_training: {"yes": 20, "no": 80}."""
    forecasts = _forecasts(rows)
    scored = forecasts[forecasts["actual"].notna()]
    return {str(kind): int(n) for kind, n in scored["in_training"].value_counts().items()}


def without_outcome(rows: pd.DataFrame) -> int:
    """Count forecasts for sessions without a bar."""
    return int(_forecasts(rows)["actual"].isna().sum())


# rows -------------------------------------------------------------------------------------


def _forecasts(rows: pd.DataFrame) -> pd.DataFrame:
    """Return one row per forecast and step.

    Of duplicates, as after an edit by hand, the last row is kept.
    """
    made = rows[rows["step"] > 0]
    return made.drop_duplicates(["symbol", "model", "revision", "as_of", "step"], keep="last")


def _rows_of(forecast: Forecast, closes: Mapping[datetime, float]) -> Iterable[dict[str, Any]]:
    made = forecast.reconstruction
    factor = "" if made is None else _number(made.factor)
    for bar in forecast.bars:
        values = [bar.close_quantiles[level] for level in QUANTILE_LEVELS]
        yield {
            "symbol": forecast.symbol,
            "interval": forecast.interval,
            "as_of": _day(forecast.as_of),
            "target": _day(bar.target_date),
            "step": bar.step,
            "last_close": _number(forecast.last_close),
            "close": _number(bar.close),
            **{name: _number(value) for name, value in zip(QUANTILES, values, strict=True)},
            "prob_up": _number(bar.prob_up),
            "anchor_factor": factor,
            "actual": _number(closes[bar.target_date]) if bar.target_date in closes else "",
            "in_training": in_training(forecast.model_name, forecast.symbol, bar.target_date),
            "seed": "" if forecast.seed is None else forecast.seed,
        }


def _ranges(bars: pd.DataFrame) -> list[dict[str, str]]:
    prices = bars[["open", "high", "low"]].to_numpy("float64").tolist()
    return [dict(zip(CLOSES[3:6], map(_number, of_bar), strict=True)) for of_bar in prices]


def _day(time: datetime) -> str:
    return f"{time:%Y-%m-%d}"


def _number(value: float) -> str:
    return f"{value:.8g}"
