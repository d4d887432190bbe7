"""Clean candle frames from a source, and check frames before they are sent to a model."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd

from tradingbot.errors import DataError
from tradingbot.markets.column_names import PRICES as PRICES
from tradingbot.markets.frames import normalised
from tradingbot.markets.session_dates import naive_times
from tradingbot.typing import Flags

Bars = tuple[pd.DataFrame, list[str]]  # candles, and sentences on remarkable facts about them


# A high below the close by less than this share is a rounding error of the source, and corrected.
_ROUNDING = 1e-3


# If more times than this, and more than this share of all times, have several bars with different
# prices, these bars are not corrections of single bars, and the frame is refused.
_CORRECTED, _CORRECTED_SHARE = 2, 0.05


def clean(raw: pd.DataFrame, symbol: str | None = None) -> Bars:
    """Return valid candles in order without duplicates, and sentences on the corrections.

    Bars with missing or impossible prices are dropped. Of several bars with the same time the last
    is kept. A missing volume counts as 0. If all volumes are missing or 0, the column is dropped.

    Raises:
        DataError: Many times have several bars with different prices.
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
        differing = _times_with_several_closes(frame, symbol)
        text = f"repeated bars dropped, the last of each kept: {doubled}"
        warnings.append(text + (f", {differing} with different closes" if differing else ""))
        frame = frame[~repeated]

    if not frame.index.is_monotonic_increasing:
        warnings.append("bars were not in order of time: sorted")
        frame = frame.sort_index()

    prices = frame[PRICES].to_numpy()
    frame = frame.assign(high=prices.max(axis=1), low=prices.min(axis=1))
    frame, unknown = with_every_volume(frame)
    warnings += unknown
    frame.index = pd.DatetimeIndex(frame.index).as_unit("us").rename("timestamp")
    return frame, warnings


def _times_with_several_closes(frame: pd.DataFrame, symbol: str | None) -> int:
    """Return the number of times that have several closes.

    Raises:
        DataError: There are so many that the bars are of several tickers, or of several times of
            day whose times are missing.
    """
    closes = frame["close"].groupby(level=0)
    kinds = closes.nunique()
    several = kinds.index[kinds > 1]
    if len(several) > max(_CORRECTED, _CORRECTED_SHARE * len(kinds)):
        newest = several[-1]
        first, *_, last = closes.get_group(newest).to_numpy()
        raise DataError(
            f"{len(several)} of {len(kinds)} times have several bars with different prices, the "
            f"last {newest:%Y-%m-%d %H:%M} with the closes {first:g} and {last:g}: these are bars "
            "of several tickers, or their times of day are missing; give one bar per time",
            symbol=symbol,
        )
    return len(several)


def left_out(raw: pd.DataFrame, begun: pd.DataFrame, now: datetime) -> Iterator[str]:
    """Yield sentences on bars of a file that are not complete at the clock `now`."""
    if len(begun):
        yield (
            f"the bar of {begun.index[-1]:%Y-%m-%d} is not complete at {now:%Y-%m-%d %H:%M} UTC: "
            "left out"
        )
    later = raw[raw.index > now]  # a bar without a close does not set the clock
    if len(empty := later[later[PRICES].isna().any(axis=1)]):
        yield f"the bar of {empty.index[-1]:%Y-%m-%d} lacks prices: left out"


def with_every_volume(frame: pd.DataFrame) -> Bars:
    """Set missing volumes to 0, because a model needs a volume in every bar or in none.

    If all volumes are missing, drop the column.
    """
    if "volume" not in frame:
        return frame, []
    volume = frame["volume"].to_numpy("float64")
    known = np.isfinite(volume) & (volume >= 0)
    if not known.any():
        return frame.drop(columns="volume"), []
    if not (unknown := int((~known).sum())):
        return frame, []
    warnings = [f"bars without a volume, which counts as 0: {unknown}"]
    return frame.assign(volume=np.where(known, volume, 0.0)), warnings


def has_trades(frame: pd.DataFrame) -> pd.Series:
    """Return which bars have trades: if volumes are known, those with a volume above 0."""
    if "volume" not in frame:
        return pd.Series(True, index=frame.index)
    return frame["volume"] > 0


def _possible(frame: pd.DataFrame) -> Flags:
    """Return which rows are valid: all prices above 0, none above high or below low."""
    prices = frame[PRICES].to_numpy()
    positive = ((prices > 0) & (prices < np.inf)).all(axis=1)  # neither holds for NaN
    high = frame["high"].to_numpy() >= prices.max(axis=1) * (1 - _ROUNDING)
    low = frame["low"].to_numpy() <= prices.min(axis=1) * (1 + _ROUNDING)
    possible: Flags = positive & high & low
    return possible


def checked(symbol: str, history: Any, interval: str) -> pd.DataFrame:
    """Return `history`, in any form that `normalised` reads, as `encode` requires it.

    Times become naive UTC, and for daily bars midnights of their sessions: see `session_dates.py`.
    Raise DataError if it cannot be sent.
    """
    bars = _readable(symbol, history)
    bars.index = naive_times(symbol, pd.DatetimeIndex(bars.index), interval)
    return bars


def checked_again(symbol: str, history: Any, interval: str) -> pd.DataFrame:
    """Like `checked`, for a frame that may come from `checked`: naive intraday times are UTC.

    `checked` could take them for local times of the exchange.
    """
    bars = _readable(symbol, history)
    times = pd.DatetimeIndex(bars.index)
    if interval == "1d" or times.tz is not None:
        bars.index = naive_times(symbol, times, interval)
    return bars


def _readable(symbol: str, history: Any) -> pd.DataFrame:
    bars = normalised(symbol, history)
    if not len(bars) or bars.index.hasnans:
        raise DataError("the history has no bars, or one without a time", symbol=symbol)
    impossible = ~np.isfinite(bars[PRICES].to_numpy()).all(axis=1)
    if "volume" in bars:
        impossible |= np.isinf(bars["volume"].to_numpy())
    if impossible.any():
        raise DataError(
            f"NaN or infinity in {int(impossible.sum())} of {len(bars)} bars, "
            f"the last of {bars.index[impossible].max():%Y-%m-%d}; drop or mend them",
            symbol=symbol,
        )
    return bars
