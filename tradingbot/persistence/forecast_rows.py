"""Convert a forecast to rows of `kronos_predictions` and of the ledger, and back."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from operator import gt
from typing import Any

from tradingbot.errors import DataError
from tradingbot.forecast import Forecast, ForecastBar, prob_above
from tradingbot.formatting import quoted

_PRICES = ("last_close", *(f"predicted_{price}" for price in ("open", "high", "low", "close")))
_TOO_MUCH = 1e300  # upper limit of a price; Python integers can be larger than any float
_QUANTILES = ("close_quantiles", "calibrated_quantiles", "combined_quantiles")
EVENT_KEY = (
    *("symbol", "interval", "model_name", "as_of", "target_date", "bars_hash"),
    "event",
)


def prediction_row(forecast: Forecast, bar: ForecastBar) -> dict[str, Any]:
    """Return the columns of KronosPrediction."""
    return _common_columns(forecast, bar) | {
        "close_p10": float(bar.close_quantiles[0.1]),
        "close_p50": float(bar.close_quantiles[0.5]),
        "close_p90": float(bar.close_quantiles[0.9]),
    }


def ledger_row(forecast: Forecast, bar: ForecastBar, *, challenger: bool) -> dict[str, Any]:
    """Return the columns of KronosForecast."""
    raw = bar.raw or bar
    calibrated = _calibrated(forecast, bar)
    return _common_columns(forecast, bar) | {
        "prob_up": float(raw.prob_up),
        "close_quantiles": _by_level(raw.close_quantiles),
        "calibrated_quantiles": calibrated and _by_level(calibrated),
        "combined_quantiles": forecast.shares and _by_level(bar.close_quantiles),
        "challenger": challenger,
        "anchor_factor": forecast.reconstruction and float(forecast.reconstruction.factor),
    }


def event_rows(forecast: Forecast) -> Iterator[dict[str, Any]]:
    """Yield the columns of KronosEvent for each event and bar.

    Raise ValueError for NaN or infinity.
    """
    for chance in forecast.events:
        for at, bar in enumerate(forecast.bars):
            numbers = {
                "probability": float(chance.probability[at]),
                "low": float(chance.low[at]),
                "high": float(chance.high[at]),
                "mean": None if chance.mean is None else float(chance.mean[at]),
            }
            for name, value in numbers.items():
                if value is not None and not math.isfinite(value):
                    place = f"{forecast.symbol} {chance.event!r} step {bar.step}"
                    raise ValueError(f"{place}: {name} is {value}, which cannot be stored")
            yield numbers | {
                "symbol": forecast.symbol,
                "interval": forecast.interval,
                "model_name": forecast.model_name,
                "as_of": forecast.as_of.replace(microsecond=0),
                "target_date": bar.target_date.replace(microsecond=0),
                "bars_hash": forecast.bars_hash,
                "event": chance.event,
                "model_revision": forecast.model_revision,
                "prediction_made_at": forecast.made_at,
                "horizon_days": int(bar.step),
                "last_close": float(forecast.last_close),
            }


def vintage_of(row: Any) -> tuple[Any, ...]:
    """Return the values that all rows of one forecast share: its model and its candles' hash."""
    return row.model_name, row.model_revision, row.bars_hash or ""


def check_storable(forecast: Forecast, bar: ForecastBar) -> None:
    """Raise ValueError for a NaN or infinite number, or for a missing quantile 0.1, 0.5 or 0.9."""
    place = f"{forecast.symbol} {forecast.interval} step {bar.step}"
    numbers = (forecast.last_close, bar.open, bar.high, bar.low, bar.close, bar.volume, bar.prob_up)
    if not all(map(math.isfinite, (*numbers, *bar.close_quantiles.values()))):
        names = ["last_close", "open", "high", "low", "close", "volume", "prob_up"]
        names += [f"quantile {level:g}" for level in bar.close_quantiles]
        named = zip(names, (*numbers, *bar.close_quantiles.values()), strict=True)
        name, value = next((n, v) for n, v in named if not math.isfinite(v))
        raise ValueError(f"{place}: {name} is {value}, which cannot be stored")
    if missing := {0.1, 0.5, 0.9} - bar.close_quantiles.keys():
        raise ValueError(f"{place}: the quantiles {sorted(missing)} of close are missing")


def forecast_of(rows: Sequence[Any]) -> Forecast:
    """Return the forecast of these rows, which are sorted by step.

    The rows are from either table. Rows of kronos_predictions are joined with the ledger's
    quantiles.

    Raises:
        DataError: A row is damaged: its numbers are impossible.
    """
    first = rows[0]
    for row in rows:
        if damage := _damage(row):
            raise DataError(
                f"{row.symbol}, the forecast of {row.target_date:%Y-%m-%d} from "
                f"{row.as_of:%Y-%m-%d} is damaged: {damage}; it is not used (`kronosbot run "
                "--force` makes the newest ones again)"
            )
    return Forecast(
        symbol=first.symbol,
        interval=first.interval,
        model_name=first.model_name,
        model_revision=first.model_revision,
        as_of=first.as_of,
        made_at=first.prediction_made_at,
        last_close=first.last_close,
        samples=first.samples,
        seed=None,  # not stored
        bars=tuple(_bar(row) for row in rows),
        calibration=first.calibration,
        shares=first.shares,
        bars_hash=first.bars_hash or "",
    )


def _common_columns(forecast: Forecast, bar: ForecastBar) -> dict[str, Any]:
    # float(), because psycopg2 cannot write numpy's numbers
    return {
        "symbol": forecast.symbol,
        "interval": forecast.interval,
        "target_date": bar.target_date,
        "model_name": forecast.model_name,
        "model_revision": forecast.model_revision,
        "prediction_made_at": forecast.made_at,
        "as_of": forecast.as_of,
        "horizon_days": int(bar.step),
        "last_close": float(forecast.last_close),
        "predicted_open": float(bar.open),
        "predicted_high": float(bar.high),
        "predicted_low": float(bar.low),
        "predicted_close": float(bar.close),
        "predicted_volume": float(bar.volume),
        "prob_up": float(bar.prob_up),
        "samples": int(forecast.samples),
        "calibration": forecast.calibration,
        "shares": None if forecast.shares is None else dict(forecast.shares),
        "bars_hash": forecast.bars_hash,
    }


def _calibrated(forecast: Forecast, bar: ForecastBar) -> Mapping[float, float] | None:
    """Return the model's own quantiles, calibrated, or None."""
    if forecast.shares is not None:
        return bar.calibrated
    return None if bar.raw is None else bar.close_quantiles


def _by_level(quantiles: Mapping[float, float]) -> dict[str, float]:
    return {f"{level:g}": float(price) for level, price in sorted(quantiles.items())}


def _damage(row: Any) -> str | None:
    """Describe invalid numbers, such as "predicted_close is nan"; None if there are none."""
    for name in _PRICES:
        price = getattr(row, name)
        if price is not None and not _is_price(price):
            return f"{name} is {quoted(price, 40)}"
    if row.shares is not None and not all(map(_is_share, row.shares.values())):
        return f"shares is {quoted(row.shares, 80)}"
    if not row.close_quantiles and not hasattr(row, "close_p50"):
        return "close_quantiles are not prices by level"
    outer = {str(level / 100): getattr(row, f"close_p{level}", None) for level in (10, 50, 90)}
    columns = {"close_p10, p50, p90": outer, **{name: getattr(row, name) for name in _QUANTILES}}
    for name, stored in columns.items():
        known = {level: at for level, at in (stored or {}).items() if at is not None}
        if problem := known and _damage_of_quantiles(known):
            return f"{name} {problem}"
    return None


def _damage_of_quantiles(stored: Mapping[str, Any]) -> str | None:
    try:
        by_level = quantiles_of(stored)
    except ValueError:
        return "has levels that are not numbers"
    for level, price in by_level.items():
        if not 0 < level < 1 or not _is_price(price):
            return f"{level:g} is {quoted(price, 40)}"
    if not by_level.keys() >= {0.1, 0.5, 0.9}:
        return "lacks 0.1, 0.5 or 0.9"
    prices = list(by_level.values())
    if any(map(gt, prices, prices[1:])):
        return "cross: a higher level has a lower price"
    return None


def _is_price(value: object) -> bool:
    return isinstance(value, int | float) and 0 < value < _TOO_MUCH


def _is_share(value: object) -> bool:
    return isinstance(value, int | float) and 0 <= value <= 1 + 1e-9


def _bar(row: Any) -> ForecastBar:
    quantiles = row.close_quantiles or {
        "0.1": row.close_p10,
        "0.5": row.close_p50,
        "0.9": row.close_p90,
    }
    bar = ForecastBar(
        step=row.horizon_days,
        target_date=row.target_date,
        open=row.predicted_open,
        high=row.predicted_high,
        low=row.predicted_low,
        close=row.predicted_close,
        volume=row.predicted_volume,
        close_quantiles=quantiles_of(quantiles),
        prob_up=row.raw_prob_up if row.close_quantiles else row.prob_up,
    )
    calibrated = row.calibrated_quantiles and quantiles_of(row.calibrated_quantiles)
    combined = row.combined_quantiles and quantiles_of(row.combined_quantiles)
    served = combined or calibrated
    if not served:
        return bar
    return replace(
        bar,
        close_quantiles=served,
        prob_up=prob_above(served, row.last_close),
        raw=bar,
        calibrated=calibrated if combined else None,
    )


def quantiles_of(by_level: Mapping[str, float]) -> dict[float, float]:
    """Return level -> price, ascending, from a JSON column. JSONB does not keep the order."""
    return dict(sorted((float(level), price) for level, price in by_level.items()))
