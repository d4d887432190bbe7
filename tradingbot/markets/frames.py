"""Convert frames of candles in common formats to the project's own format.

Reads frames of yfinance (capitalised names, a level of tickers, times with a zone), frames with a
column of dates instead of an index, and frames of other libraries.
"""

import logging
import warnings
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.interchange import from_dataframe

from tradingbot.errors import DataError
from tradingbot.markets.column_names import (
    NAMES,
    PRICES,
    RUNNING,
    Columns,
    find_columns,
    may_be_volume,
    simplified,
    unknown_volume_note,
)
from tradingbot.typing import Floats

logger = logging.getLogger(__name__)

_MIN_EPOCH = 10**8
_EXPECTED = (
    "expected a DataFrame with a DatetimeIndex, or a date column, and open, high, low, close"
)


def normalised(symbol: str, history: Any) -> pd.DataFrame:
    """Return `history` with a sorted DatetimeIndex and the columns PRICES and, if present, volume.

    `history` may be a pandas frame, or a frame of a library with the dataframe interchange protocol
    or `to_pandas`. Other columns are ignored. A time zone is kept.

    Raises:
        DataError: `history` is not a frame of this ticker's candles. The message names missing or
            duplicate columns.
    """
    given = to_pandas(symbol, history)
    frame = _of_ticker(symbol, given)
    names = list(frame.columns)
    columns = find_columns(names)
    if doubled := [name for name in (*PRICES, "volume") if name in columns.doubled]:
        raise DataError(
            f"the history needs exactly one column {', '.join(doubled)}: "
            f"{columns.doubled[doubled[0]]}",
            symbol=symbol,
        )
    if missing := [name for name in PRICES if name not in columns.position]:
        raise DataError(
            f"the history needs exactly one column {', '.join(missing)}, but {names}"
            + "; Kronos reads candles, not one series" * (len(missing) >= 3),
            symbol=symbol,
        )
    places = {name: columns.position[name] for name in PRICES}
    volume = _volume(symbol, names, columns)
    if volume is not None:
        places["volume"] = volume
    bars = frame.iloc[:, list(places.values())].copy()
    bars.columns = pd.Index(list(places))
    bars.index = _times(symbol, frame, columns)
    try:
        bars = bars.astype("float64")
    except (TypeError, ValueError) as error:
        raise DataError(
            f"the history has a value that is not a number: {error}", symbol=symbol
        ) from error
    if volume is None and not columns.volumes:
        _warn_of_unknown_volumes(symbol, frame, columns, bars["close"].to_numpy())
    if (place := columns.position.get("complete")) is not None:
        bars = _without_running(symbol, bars, frame.iloc[:, place])
    bars = _with_prices(symbol, bars, of_several=isinstance(given.columns, pd.MultiIndex))
    return bars if bars.index.is_monotonic_increasing else bars.sort_index(kind="stable")


def _warn_of_unknown_volumes(
    symbol: str, frame: pd.DataFrame, columns: Columns, close: Floats
) -> None:
    headings = [
        name
        for place, name in enumerate(frame.columns)
        if place not in columns.position.values()
        and pd.api.types.is_numeric_dtype(frame.dtypes.iloc[place])
        and may_be_volume(name, frame.iloc[:, place].to_numpy("float64", na_value=np.nan), close)
    ]
    if headings:
        logger.warning("%s: %s", symbol, unknown_volume_note(headings))


def _without_running(symbol: str, bars: pd.DataFrame, states: pd.Series) -> pd.DataFrame:
    """Return the bars that the frame does not mark as unfinished."""
    running = states.astype(str).str.lower().isin(RUNNING).to_numpy()
    if not running.any():
        return bars
    newest = bars.index[running].max()
    logger.warning(
        "%s: bars left out because the frame says they are running: %d, the last of %s",
        symbol, int(running.sum()), newest.date(),
    )  # fmt: skip
    kept: pd.DataFrame = bars[~running]
    return kept


def _with_prices(symbol: str, bars: pd.DataFrame, *, of_several: bool) -> pd.DataFrame:
    """Return the rows with at least one price.

    A warning reports the other rows, except in a frame of several tickers.
    """
    empty = np.isnan(bars[PRICES].to_numpy()).all(axis=1)
    if not empty.any():
        return bars
    if not of_several:
        count = int(empty.sum())
        newest = bars.index[empty].max()
        logger.warning(
            "%s: rows without prices left out: %d, the last of %s", symbol, count, newest.date()
        )
    kept: pd.DataFrame = bars[~empty]
    return kept


def to_pandas(symbol: str | None, history: Any) -> pd.DataFrame:
    """Return the frame as a pandas frame. Raise DataError if that is impossible."""
    if isinstance(history, pd.DataFrame):
        return history
    if isinstance(history, pd.Series):
        raise DataError(f"{_EXPECTED} as the history, and not one column", symbol=symbol)
    try:
        if hasattr(history, "get_columns"):  # polars, whose other conversions need pyarrow
            return pd.DataFrame({column.name: column.to_list() for column in history.get_columns()})
        if hasattr(history, "__dataframe__"):
            with warnings.catch_warnings():  # pandas 3 prefers Arrow, which needs pyarrow
                warnings.simplefilter("ignore", DeprecationWarning)
                return from_dataframe(history)
        if hasattr(history, "to_pandas"):
            frame = history.to_pandas()
            if isinstance(frame, pd.DataFrame):
                return frame
        if hasattr(history, "__arrow_c_stream__"):
            read: pd.DataFrame = pd.DataFrame.from_arrow(history)  # type: ignore[attr-defined]
            return read
    except Exception as error:  # any error of another library
        raise DataError(
            f"the {type(history).__name__} is not a frame that pandas reads "
            f"({' '.join(str(error).split())}); {_EXPECTED}",
            symbol=symbol,
        ) from error
    raise DataError(f"{_EXPECTED} as the history", symbol=symbol)


def tickers_of(columns: pd.MultiIndex) -> list[str]:
    """Return the tickers of a wide frame, with a level of prices and a level of tickers."""
    tickers = columns.droplevel([_price_level(columns)])
    return list(dict.fromkeys(str(name) for name in tickers if str(name)))


def _price_level(columns: pd.MultiIndex) -> int:
    for level in range(columns.nlevels):
        if set(PRICES) <= set(map(simplified, columns.get_level_values(level))):
            return level
    return 0


def _of_ticker(symbol: str, frame: pd.DataFrame) -> pd.DataFrame:
    """Return the ticker's part of a frame, with one level of columns and of the index."""
    if isinstance(frame.columns, pd.MultiIndex):
        level = _price_level(frame.columns)
        names = frame.columns.get_level_values(level)
        labels = frame.columns.droplevel(level)
        ticker = _ticker(symbol, [str(name) for name in labels if str(name)])
        frame = frame.loc[:, [str(name) in ("", ticker) for name in labels]]
        frame.columns = names[[str(name) in ("", ticker) for name in labels]]
    if isinstance(frame.index, pd.MultiIndex):
        levels = frame.index.levels
        times = [i for i, level in enumerate(levels) if isinstance(level, pd.DatetimeIndex)]
        if len(levels) != 2 or len(times) != 1:
            return _of_ticker(symbol, _with_levels_as_columns(symbol, frame))
        tickers = frame.index.get_level_values(1 - times[0]).astype(str)
        frame = frame[tickers == _ticker(symbol, list(tickers))]
        frame.index = frame.index.get_level_values(times[0])
    called = list(map(simplified, frame.columns))
    if found := [called.index(name) for name in NAMES["symbol"] if name in called]:
        of_rows = frame.iloc[:, found[0]].astype(str)
        frame = frame[(of_rows == _ticker(symbol, list(of_rows))).to_numpy()]
    return frame


def _with_levels_as_columns(symbol: str, frame: pd.DataFrame) -> pd.DataFrame:
    """Return a frame with the levels of its index as columns, such as ticker and dates as text."""
    names = [simplified(name) for name in frame.index.names if name is not None]
    if len(names) != frame.index.nlevels or set(names) & set(map(simplified, frame.columns)):
        raise DataError(
            f"the history has an index of {frame.index.nlevels} levels; {_EXPECTED}", symbol=symbol
        )
    return frame.reset_index()


def _ticker(symbol: str, tickers: list[str]) -> str:
    """Return the matching ticker of the frame."""
    known = dict.fromkeys(tickers)
    found = [ticker for ticker in known if ticker.upper() == symbol.upper()]
    if not found and len(known) > 1:
        raise DataError(f"the history is of {', '.join(known)}, not of this ticker", symbol=symbol)
    return (found or tickers or [""])[0]


def _volume(symbol: str, names: list[Any], columns: Columns) -> int | None:
    """Return the position of the volume in units of the traded asset, or None."""
    for name in ("volume", "ticks"):
        if name in columns.position:
            return columns.position[name]
    units = {place: simplified(names[place]).split()[1].upper() for place in columns.volumes}
    base = [place for place, unit in units.items() if symbol.upper().startswith(unit)]
    if len(base) != 1 and units:
        logger.warning(
            "%s: no volume: none of %s is known to be in units of it",
            symbol, ", ".join(str(names[place]) for place in units),
        )  # fmt: skip
    return base[0] if len(base) == 1 else None


def _times(symbol: str, frame: pd.DataFrame, columns: Columns) -> pd.DatetimeIndex:
    """Return the times: the index, or a column of dates if the index has only row numbers."""
    index: Any = frame.index
    if isinstance(index, pd.PeriodIndex):
        return index.to_timestamp()
    if isinstance(index, pd.DatetimeIndex):
        return index
    if "time" in columns.position:
        index = frame.iloc[:, columns.position["time"]]
    elif isinstance(index, pd.RangeIndex) or _only_counts(index):
        raise DataError(f"the history has no times; {_EXPECTED}", symbol=symbol)
    try:
        return pd.DatetimeIndex(_read_times(pd.Series(index)))
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(
            f"the history's times are not read ({str(error).splitlines()[0].split('. ')[0]}); "
            "convert them with pd.to_datetime",
            symbol=symbol,
        ) from error


def _only_counts(index: Any) -> bool:
    return pd.api.types.is_integer_dtype(index) and index.min() < _MIN_EPOCH


def _read_times(times: pd.Series) -> pd.Series:
    if isinstance(times.dtype, pd.PeriodDtype):
        return pd.Series(pd.PeriodIndex(times).to_timestamp())
    if pd.api.types.is_datetime64_any_dtype(times):
        return times
    if pd.api.types.is_numeric_dtype(times):
        return _from_epochs(times.astype("int64"))
    try:
        return pd.to_datetime(times, format="ISO8601")
    except ValueError as error:
        if "Mixed timezones" not in str(error):
            raise
    # the offset changes with daylight saving; a midnight belongs to the day as written
    walls = pd.to_datetime(times.astype(str).str.slice(0, 19), format="ISO8601")
    if walls.eq(walls.dt.normalize()).all():
        return walls
    return pd.to_datetime(times, format="ISO8601", utc=True)


def _from_epochs(times: pd.Series) -> pd.Series:
    """Convert seconds, milli-, micro- or nanoseconds, according to the number of digits."""
    if (times < _MIN_EPOCH).any():
        raise ValueError(f"{times[times < _MIN_EPOCH].iloc[0]} is not an epoch")
    factors = np.select([times < 10**bound for bound in (11, 14, 17)], [10**9, 10**6, 10**3], 1)
    return pd.Series(pd.to_datetime((times * factors).to_numpy(), utc=True))
