"""Splits and dividends reported by a source of candles."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Self

import pandas as pd


@dataclass(frozen=True)
class Actions:
    """All splits and dividends from a day on. None if the source does not report them."""

    since: datetime
    # first day at the new price -> new shares per old share
    splits: Mapping[datetime, float] | None
    dividends: Mapping[datetime, float] | None  # ex-dividend day -> USD per share of today

    @classmethod
    def actions_in(cls, bars: pd.DataFrame, since: datetime) -> Self:
        """Return the actions in a source's frame of bars from `since` on."""
        return cls(since, bars.attrs.get("splits"), bars.attrs.get("dividends"))
