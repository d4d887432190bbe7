"""A hash of candles, to detect whether a forecast was made from the same candles."""

import hashlib

import numpy as np
import pandas as pd

from tradingbot.markets.column_names import PRICES

_DIGITS = 7  # significant digits; a source's own rounding is below that


def bars_hash(bars: pd.DataFrame) -> str:
    """Return 16 hexadecimal digits that change when a bar is added, completed or corrected."""
    names = [*PRICES, *(["volume"] if "volume" in bars else [])]
    values = bars[names].to_numpy("float64")
    with np.errstate(divide="ignore"):
        size = np.floor(np.log10(np.abs(values), where=values != 0, out=np.zeros_like(values)))
    rounded = np.rint(values / 10.0 ** (size - _DIGITS + 1)).astype("float64")
    times = pd.DatetimeIndex(bars.index).to_numpy("datetime64[s]").astype("int64")
    digest = hashlib.sha256(times.tobytes() + size.tobytes() + rounded.tobytes())
    return digest.hexdigest()[:16]
