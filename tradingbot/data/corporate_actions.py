"""What a company did to its shares: splits and dividends, as a source of candles tells of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Self

import pandas as pd


@dataclass(frozen=True)
class Actions:
    """All splits and dividends from the day of `since` on; None where the source tells of none."""

    since: datetime
    splits: Mapping[datetime, float] | None  # first day at the new price -> new shares for an old
    dividends: Mapping[datetime, float] | None  # first day without it -> USD a share of today

    @classmethod
    def told_by(cls, bars: pd.DataFrame, since: datetime) -> Self:
        """What a source's own frame of bars from `since` on says."""
        return cls(since, bars.attrs.get("splits"), bars.attrs.get("dividends"))
