"""Measure how often times inferred from bars alone are times at which the market trades.

    python -m tests.support.patterns                 every calendar, 200 cuts each; a few minutes
    python -m tests.support.patterns XNYS XTAE --cuts 1000

For every calendar of exchange_calendars, 2015 to 2027, daily and hourly: the real bars are cut at
random, and the next ones are inferred. A target is right if the market has a bar at that weekday
and time of day in the target's week. If a holiday or a short session replaces that bar, which
earlier bars cannot show, the two weeks before and after decide.
"""

import argparse
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import exchange_calendars as xcals
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kronos_space.forecasting.timestamps import Times, next_times

FIRST = pd.Timestamp("2015-01-01")


@dataclass(frozen=True)
class Market:
    """The real bars of one exchange."""

    daily: Times
    hourly: Times  # local times of the exchange, with UTC offset
    hourly_utc: Times


def codes() -> list[str]:
    return sorted(xcals.get_calendar_names(include_aliases=False))


def market(code: str, last: str = "2027-12-31") -> Market:
    """Return the bars of an exchange from 2015 to `last`, as far as its calendar covers them."""
    kind = xcals.calendar_utils._default_calendar_factories[code]
    bounds = kind.bound_min(), kind.bound_max()
    start = FIRST if bounds[0] is None else max(FIRST, bounds[0])
    end = pd.Timestamp(last) if bounds[1] is None else min(pd.Timestamp(last), bounds[1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # exchange_calendars warns about pandas
        calendar = xcals.get_calendar(code, start=start, end=end)
    schedule = calendar.schedule
    days = schedule.index.to_numpy().astype("datetime64[us]")
    edges = schedule[["open", "break_start", "break_end", "close"]]
    starts: list[pd.Timestamp] = []
    for opens, pause, resumes, closes in edges.itertuples(index=False):
        parts = [(opens, closes)] if pd.isna(pause) else [(opens, pause), (resumes, closes)]
        for start, stop in parts:
            starts.extend(pd.date_range(start, stop, freq="1h", inclusive="left"))
    utc = pd.DatetimeIndex(starts).as_unit("us")
    utc = utc[~utc.duplicated()].sort_values()
    wall = utc.tz_convert(calendar.tz).tz_localize(None).to_numpy()
    instants = utc.tz_localize(None).to_numpy()
    offset = (wall - instants).astype("timedelta64[m]")
    return Market(
        daily=Times(days, None),
        hourly=Times(wall, offset),
        hourly_utc=Times(instants, np.zeros(len(instants), "timedelta64[m]")),
    )


def count_right(
    bars: Times, *, cuts: int, horizon: int, seed: int, history: tuple[int, int] = (64, 500)
) -> tuple[int, int]:
    """Return the number of right targets, and of all targets."""
    random = np.random.default_rng(seed)
    truth = _TradingSlots(bars.wall)
    good = total = 0
    for _ in range(cuts):
        end = int(random.integers(history[1], len(bars.wall) - 10 * horizon))
        used = slice(end - int(random.integers(*history)), end)
        offset = None if bars.offset is None else bars.offset[used]
        targets = next_times(Times(bars.wall[used], offset), horizon).wall
        found = [truth.has(moment) for moment in targets]
        good, total = good + sum(found), total + len(found)
    return good, total


class _TradingSlots:
    """The weekday and time slots in which a market trades, week by week."""

    def __init__(self, wall: NDArray[np.datetime64]) -> None:
        self._bars = set(wall.astype("datetime64[m]").astype(int).tolist())
        days, counts = np.unique(wall.astype("datetime64[D]"), return_counts=True)
        self._counts = dict(zip(days.astype(int).tolist(), counts.tolist(), strict=True))
        self._last = int(days[-1].astype(int))

    def has(self, moment: np.datetime64) -> bool:
        minute = int(moment.astype("datetime64[m]").astype(int))
        day, week = minute // 1440, 7 * 1440
        if minute in self._bars:
            return True
        around = [minute + weeks * week for weeks in (-2, -1, 1, 2)]
        usual = sorted(self._counts.get(day + 7 * weeks, 0) for weeks in (-2, -1, 1, 2))[-1]
        if self._counts.get(day, 0) >= usual and self._counts.get(day, 0):
            return False  # the session is full, and has no such bar
        return any(other in self._bars for other in around)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("codes", nargs="*", default=codes())
    parser.add_argument("--cuts", type=int, default=200)
    options = parser.parse_args(arguments)
    sums = dict.fromkeys(("daily", "hourly", "hourly_utc"), (0, 0))
    for code in options.codes:
        try:
            bars = market(code)
        except (ValueError, NotImplementedError) as error:
            # some calendars fail with newer versions of pandas
            print(f"{code:8} cannot be made: {str(error)[:60]} …", flush=True)
            continue
        shares = []
        for name, (good, total) in sums.items():
            its = count_right(
                getattr(bars, name),
                cuts=options.cuts,
                horizon=5 if name == "daily" else 12,
                seed=len(code),
            )
            sums[name] = good + its[0], total + its[1]
            shares.append(f"{name} {100 * its[0] / its[1]:6.2f} %")
        print(f"{code:8}", "  ".join(shares), flush=True)
    print("all     ", "  ".join(f"{k} {100 * g / t:6.3f} %" for k, (g, t) in sums.items()))


if __name__ == "__main__":
    main()
