"""What a candle frame is: cleaned as it comes from a source, checked as it goes to a model."""

import numpy as np
import pandas as pd

from tradingbot.errors import DataError

PRICES = ["open", "high", "low", "close"]
Bars = tuple[pd.DataFrame, list[str]]  # candles, and sentences on what is odd about them


# A high below the close by less than this share of it is a rounding of the source, and mended.
_ROUNDING = 1e-3


def clean(raw: pd.DataFrame) -> Bars:
    """Possible candles in order, each timestamp once, and sentences on what was done to get them.

    Bars with missing or impossible prices are dropped, of doubled ones the last stays, a missing
    volume counts as 0; where all volumes are missing or 0 there is no such column.
    """
    has_volume = "volume" in raw and raw["volume"].fillna(0).ne(0).any()
    frame = raw[[*PRICES, "volume"] if has_volume else PRICES].astype("float64")
    warnings = []

    usable = _possible(frame)
    if dropped := int((~usable).sum()):
        warnings.append(
            f"bars dropped for missing or impossible prices: {dropped} of {len(frame)}, "
            f"the last of {frame.index[~usable].max():%Y-%m-%d}"
        )
    frame = frame[usable]

    repeated = frame.index.duplicated(keep="last")
    if doubled := int(repeated.sum()):
        warnings.append(f"repeated bars dropped, the last of each kept: {doubled}")
    frame = frame[~repeated]

    if not frame.index.is_monotonic_increasing:
        warnings.append("bars were not in order of time: sorted")
        frame = frame.sort_index()

    frame["high"] = frame[PRICES].max(axis=1)
    frame["low"] = frame[PRICES].min(axis=1)
    if has_volume:
        known = np.isfinite(frame["volume"]) & (frame["volume"] >= 0)
        if unknown := int((~known).sum()):
            warnings.append(f"bars without a volume, which counts as 0: {unknown}")
        frame["volume"] = frame["volume"].where(known, 0.0)
    frame.index = pd.DatetimeIndex(frame.index).as_unit("us").rename("timestamp")
    return frame, warnings


def _possible(frame: pd.DataFrame) -> pd.Series:
    """Which rows are candles: prices above 0, high and low around the others (but for rounding)."""
    prices = frame[PRICES]
    positive = (prices.gt(0) & prices.lt(np.inf)).all(axis=1)  # neither holds for NaN
    high = prices["high"] >= prices.max(axis=1) * (1 - _ROUNDING)
    low = prices["low"] <= prices.min(axis=1) * (1 + _ROUNDING)
    return positive & high & low


def checked(symbol: str, history: pd.DataFrame, interval: str) -> pd.DataFrame:
    """`history` as `encode` takes it, its times naive; DataError says why it cannot be sent.

    Times with a zone become UTC; those of daily bars are dates, and keep the day they show.
    """
    if not isinstance(history, pd.DataFrame) or not isinstance(history.index, pd.DatetimeIndex):
        raise DataError("expected a DataFrame with a DatetimeIndex as the history", symbol=symbol)
    if not len(history) or history.index.hasnans:
        raise DataError("the history has no bars, or one without a time", symbol=symbol)
    names = list(history.columns)
    if wrong := [name for name in PRICES if names.count(name) != 1]:
        raise DataError(
            f"the history has not one column {', '.join(wrong)}, but {names}", symbol=symbol
        )
    try:
        bars = history[[*PRICES, *(["volume"] if "volume" in names else [])]].astype("float64")
    except (TypeError, ValueError) as error:
        raise DataError(f"the history has what is no number: {error}", symbol=symbol) from error
    impossible = ~np.isfinite(bars[PRICES]).all(axis=1) | np.isinf(bars.get("volume", 0.0))
    if impossible.any():
        raise DataError(
            f"NaN or infinity in {int(impossible.sum())} of {len(bars)} bars, "
            f"the last of {bars.index[impossible].max():%Y-%m-%d}; drop or mend them",
            symbol=symbol,
        )
    times = history.index
    if times.tz is not None:
        daily = interval == "1d"
        bars.index = naive = times.tz_localize(None) if daily else times.tz_convert(None)
        if daily and not naive.equals(naive.normalize()):
            raise DataError(
                f"daily bars at {times[-1]}; expected midnight of the session's date: "
                "convert to the exchange's time zone first",
                symbol=symbol,
            )
    return bars
