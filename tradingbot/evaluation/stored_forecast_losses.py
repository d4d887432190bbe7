"""The stored forecasts of one part of the ledger that no longer change."""

from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tradingbot.evaluation.close_outcomes import UnresolvedReason
from tradingbot.evaluation.forecast_losses import ByQuarter, MaturedForecasts
from tradingbot.persistence.forecast_losses import StoredPart
from tradingbot.persistence.ledger import LedgerPart
from tradingbot.typing import Floats

_SAME = 1e-12  # closes with a smaller relative difference count as equal


@dataclass(frozen=True)
class Settled:
    """The stored, settled forecasts of one part.

    Attributes:
        until: Forecasts with an earlier `as_of` are settled.
        times: Times of the closes that the forecasts were compared with, in seconds.
        closes: The closes at `times`.
        left_out: Number of settled forecasts that will never have an outcome, by reason.
        forecasts: Settled forecasts with an outcome.
        stored: False if nothing is stored, so that the part must be computed in full.
    """

    until: datetime
    times: NDArray[np.int64]
    closes: Floats
    left_out: Counter[UnresolvedReason]
    forecasts: ByQuarter
    stored: bool = True

    @classmethod
    def nothing(cls, part: LedgerPart) -> "Settled":
        empty: NDArray[Any] = np.empty(0)
        return cls(part.first_as_of, empty, empty, Counter(), {}, stored=False)

    @classmethod
    def of(cls, stored: StoredPart) -> "Settled":
        """Decode a stored part.

        Raises:
            ValueError, KeyError: The part is damaged.
        """
        forecasts = {
            quarter: MaturedForecasts.unpacked(data) for quarter, data in stored.forecasts.items()
        }
        if sum(map(len, forecasts.values())) != stored.count:
            raise ValueError(f"these are not {stored.count} forecasts")
        times, closes = np.frombuffer(stored.closes, "float64").reshape(2, -1)
        return cls(
            stored.until,
            times.astype("int64"),
            closes,
            Counter({UnresolvedReason[name]: n for name, n in stored.left_out.items()}),
            forecasts,
        )

    def is_valid_for(self, past: pd.Series) -> bool:
        """Return whether `past` still has the closes used for the forecasts.

        A common factor, as from a split, is allowed.
        """
        if not len(self.closes):
            return not self.forecasts
        times, closes = closes_as_arrays(past)
        before = self.times >= times[0]
        now = (times >= self.times[0]) & (times <= self.times[-1])
        if not before.any() or not np.array_equal(self.times[before], times[now]):
            return False
        ratio = closes[now] / self.closes[before]
        return bool(np.ptp(ratio) <= _SAME * ratio[0])


def closes_as_arrays(past: pd.Series) -> tuple[NDArray[np.int64], Floats]:
    """Return the times in seconds and the closes of `past`."""
    times = past.index.to_numpy().astype("datetime64[s]").astype("int64")
    return times, past.to_numpy(dtype="float64")
