"""Decode quantiles of many ledger rows from JSON to arrays."""

from collections.abc import Sequence
from operator import itemgetter

import numpy as np
import orjson

from tradingbot.forecast import QUANTILE_LEVELS
from tradingbot.typing import Floats

_KEYS = tuple(f"{level:g}" for level in QUANTILE_LEVELS)
_quantiles = itemgetter(*_KEYS)


def where_known(texts: Sequence[str | None], scale: Floats) -> Floats:
    """Return quantiles ÷ `scale`, (rows, 19). NaN for rows without JSON."""
    quantiles = np.full((len(texts), len(_KEYS)), np.nan)
    known = [(row, text) for row, text in enumerate(texts) if text is not None]
    if known:
        rows, known_texts = zip(*known, strict=True)
        quantiles[[*rows]] = decoded(known_texts) / scale[[*rows], None]
    return quantiles


def decoded(texts: Sequence[str]) -> Floats:
    """Return the quantiles in JSON objects, (rows, 19). NaN for missing levels and damaged rows."""
    try:
        values = [_quantiles(by_level) for by_level in orjson.loads(f"[{','.join(texts)}]")]
        if len(values) != len(texts):
            raise ValueError("a text with a comma between objects")
        quantiles = np.array(values, dtype="float64")
    except (KeyError, TypeError, ValueError, OverflowError):
        quantiles = np.array([_decode_row(text) for text in texts], dtype="float64")
    possible = np.isfinite(quantiles) & (quantiles > 0)
    falls = np.diff(quantiles, axis=1) < 0
    quantiles[~(possible | np.isnan(quantiles)).all(axis=1) | falls.any(axis=1)] = np.nan
    return quantiles


def _decode_row(text: str) -> list[float]:
    try:
        by_level = orjson.loads(text)
        return [float(by_level.get(key, np.nan)) for key in _KEYS]
    except (AttributeError, TypeError, ValueError, OverflowError):
        return [np.nan] * len(_KEYS)
