"""A real Space accepts intraday targets as wall times, and the client accepts its answer."""

import numpy as np
import pandas as pd
import pytest

from tradingbot.markets.calendars import sessions_of
from tradingbot.utils.core import KronosClient


@pytest.mark.parametrize(
    ("symbol", "last", "first_ahead"),
    [
        ("SPY", "2025-11-26 20:30", "2025-11-28 14:30"),  # across Thanksgiving
        ("SPY", "2025-10-31 19:30", "2025-11-03 14:30"),  # across a clock change
        ("7203.T", "2025-11-26 02:00", "2025-11-26 03:30"),  # across the lunch break
    ],
)
def test_a_space_answers_for_the_exchanges_minutes(space_url, symbol, last, first_ahead):
    known, parts = sessions_of(symbol), []
    near = (known.days > np.datetime64("2025-10-01")) & (known.days < np.datetime64("2025-11-28"))
    for at in np.flatnonzero(near):
        ends = [known.opens[at], known.closes[at]]
        if known.breaks is not None:
            ends[1:1] = [known.breaks[0][at], known.breaks[1][at]]
        parts += [
            np.arange(a, b, np.timedelta64(1, "h")) for a, b in zip(*[iter(ends)] * 2, strict=True)
        ]
    index = pd.DatetimeIndex(np.concatenate(parts))
    index = index[index <= pd.Timestamp(last)]
    close = 100 + np.sin(np.arange(len(index)))
    frame = pd.DataFrame(
        {"open": close, "high": close + 1, "low": close - 1, "close": close}, index=index
    )
    client = KronosClient(space_url)
    made = client.forecast(symbol, history=frame.tz_localize("UTC"), interval="1h", horizon=3)
    assert made["target_date"].iloc[0] == pd.Timestamp(first_ahead)
