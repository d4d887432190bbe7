"""Warnings about valid but suspicious candles, for the answer's `warnings`. Imports no torch.

A request contains bars, an interval label and target timestamps, but does not name the exchange. So
this module only warns and refuses nothing: a caller that knows the market can judge better.
"""

import re
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from kronos_space.forecasting.candles import Floats, History
from kronos_space.forecasting.timestamps import Times

Seconds = NDArray[np.int64]

RARE = 0.05  # share of bars with the expected spacing below which the label is suspicious
NEAR = 1.25  # spacings within this factor count as equal: months, changes of clocks
STALE = 3  # multiple of the longest gap between bars
JUMP = 1.4  # ratio to the bar before; smaller moves occur in any market
UNUSUAL = 6.0  # multiple of the usual move
CALM = 2.5  # multiple of a bar's usual range; a larger range suggests news
BUSY = 2.5  # multiple of the usual volume; a larger volume suggests news
IDLE = 0.2  # share of bars that only repeat the previous price
IDLE_AT_THE_END = 3
FULL = 0.85  # share of weekdays with bars, allowing for holidays
CLOSED = 14  # days without a bar; longer than ordinary market holidays
LARGEST_CHANGE = np.timedelta64(2, "h")  # of a zone's offset from UTC, in winter and summer
BETWEEN_CHANGES = np.timedelta64(20, "D")  # at least; Morocco's clocks change around Ramadan
FURTHEST_EAST = np.timedelta64(14, "h")  # the largest offset from UTC; for times without a zone

_LABEL = re.compile(r"(\d{1,4})(m|min|h|d|w|wk)")
_UNITS = {"m": 60, "min": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400, "wk": 7 * 86_400}


def candle_warnings(
    history: History,
    *,
    used: int,
    interval: str | None,
    targets: Times | None,
    now: np.datetime64,
) -> list[str]:
    """Return warnings about `history`.

    Args:
        history: The bars, (n, 6), oldest first.
        used: Number of newest bars that the model sees. Breaks of scale in earlier bars do not
            matter.
        interval: The caller's label of the spacing, or None.
        targets: The caller's future timestamps, or None.
        now: The current time in UTC.
    """
    gaps = _gaps(history.times)
    found = [*_against_the_label(gaps, interval), *_against_the_clock(history.times, gaps, now)]
    found += _offsets(history.times, targets)
    if targets is not None:
        found += _against_the_targets(history.times, gaps, targets)
    found += _missing(history.times, gaps)
    return [*found, *_breaks_of_scale(history.values, used), *_idle(history.values)]


def _gaps(times: Times) -> Seconds:
    return np.diff(times.instant).astype("timedelta64[s]").astype(np.int64)


def _against_the_label(gaps: Seconds, interval: str | None) -> Iterator[str]:
    label = _LABEL.fullmatch(interval or "")
    if label is None or not len(gaps):
        return
    expected = int(label[1]) * _UNITS[label[2]]
    if not (gaps < NEAR * expected).mean() > RARE or not (gaps > expected / NEAR).mean() > 0.5:
        usual = _spaced(int(np.median(gaps)))
        yield f"interval {interval}, but the bars are {usual} apart"


def _against_the_clock(times: Times, gaps: Seconds, now: np.datetime64) -> Iterator[str]:
    """Report bars in the future, and intraday bars that have not ended."""
    zoned = times.offset is not None
    begins = times.instant if zoned else times.wall - FURTHEST_EAST
    clock = f"at {now.astype('datetime64[m]')} UTC"
    last = len(begins) - 1
    if count := int((begins > now).sum()):
        subject = (
            f"row {last} is" if count == 1 else f"{count} bars from row {last + 1 - count} on are"
        )
        yield f"{subject} of the future {clock}: leave out what has not happened"
    elif zoned and len(gaps):
        length = int(np.median(gaps))
        if length < _UNITS["d"] and begins[-1] + np.timedelta64(length, "s") > now:
            yield (
                f"row {last}: the bar begins less than {_spaced(length)} ago {clock}, so it is not "
                "complete: leave it out"
            )


def _offsets(times: Times, targets: Times | None) -> Iterator[str]:
    """Report offsets from UTC that change more, or more often, than an exchange's clock does."""
    bars, offset = len(times.wall), times.offset
    if offset is None:
        return
    if targets is not None and targets.offset is not None:
        offset = np.concatenate([offset, targets.offset])
        times = Times(np.concatenate([times.wall, targets.wall]), offset)
    changes = np.diff(offset)
    rows = np.flatnonzero(changes) + 1
    soon = np.diff(times.instant[rows]) < BETWEEN_CHANGES
    odd = np.abs(changes[rows - 1]) > LARGEST_CHANGE
    odd[1:] |= soon
    if odd.any():
        row = int(rows[odd][0])
        text = times.isoformat()
        place = f"row {row}" if row < bars else f"target_timestamps {row - bars}"
        yield (
            f"{place}: {text[row]} after {text[row - 1]}: no exchange's clock changes like that; "
            "the model reads times as written, so write all in the exchange's zone"
        )


def _missing(times: Times, gaps: Seconds) -> Iterator[str]:
    """Report weekdays without bars, if more than holidays explain."""
    if not len(gaps) or np.median(gaps) > _UNITS["d"] * NEAR:
        return
    days = np.unique(times.wall.astype("datetime64[D]"))
    due = int(np.busday_count(days[0], days[-1])) + 1
    longest, row = int(gaps.max()), int(gaps.argmax()) + 1
    if len(days) < FULL * due or longest > CLOSED * _UNITS["d"]:
        yield (
            f"bars on {len(days)} days, where {due} are weekdays: the longest time without a bar "
            f"is {_spaced(longest)}, before row {row}"
        )


def _against_the_targets(times: Times, gaps: Seconds, targets: Times) -> Iterator[str]:
    ahead = Times(
        np.concatenate([times.wall[-1:], targets.wall]),
        None
        if times.offset is None or targets.offset is None
        else np.concatenate([times.offset[-1:], targets.offset]),
    )
    steps = _gaps(ahead)
    nearest = int(steps.min())
    too_near = (gaps < NEAR * nearest).mean() < RARE
    too_far = len(steps) > 1 and (gaps > nearest / NEAR).mean() < RARE
    if too_near or too_far:
        yield (
            f"the bars are {_spaced(int(np.median(gaps)))} apart, the target_timestamps "
            f"{_spaced(nearest)}: such timestamps are not the history's next bars"
        )
    elif steps[0] > STALE * gaps.max():
        yield (
            f"the first target is {_spaced(int(steps[0]))} after the newest bar: bars between them "
            "are missing"
        )


def _breaks_of_scale(values: Floats, used: int) -> Iterator[str]:
    """Report calm bars that do not overlap the bar before and have no high volume."""
    open_, high, low, close, volume = np.log(np.maximum(values[:, :5], 1e-300)).T
    gap = open_[1:] - close[:-1]
    size = np.abs(gap)
    apart = (low[1:] > high[:-1]) | (high[1:] < low[:-1])
    far = apart & (size > np.log(JUMP))
    if not far.any():
        return
    span = high - low
    usual = UNUSUAL * np.median(np.abs(np.diff(close)))
    calm = span[1:] <= np.maximum(CALM * np.median(span), 0.1 * size)
    traded = values[1:, 4] > 0
    # a split alone multiplies the share volume by its ratio
    busy = traded & (volume[1:] - np.median(volume) + np.minimum(gap, 0) > np.log(BUSY))
    rows = np.flatnonzero(far & (size > usual) & calm & ~busy) + 1
    rows = rows[rows > len(values) - used]
    if rows.size:
        row = int(rows[-1])
        further = f", and at {rows.size - 1} more" if rows.size > 1 else ""
        yield (
            f"row {row}: prices change by the factor {np.exp(gap[row - 1]):.4g} from the bar "
            f"before{further}: a split or special dividend that was not applied, or another "
            "unit? give prices of one scale"
        )


def _idle(values: Floats) -> Iterator[str]:
    """Report bars that only repeat the last price: filled in, or from a closed market."""
    high, low, close = values[1:, 1], values[1:, 2], values[:-1, 3]
    idle = (high == low) & (low == close)
    if idle.all():  # constant closes have their own warning
        return
    if idle.mean() >= IDLE or idle[-IDLE_AT_THE_END:].all():
        row = int(np.flatnonzero(idle)[-1]) + 1
        yield (
            f"{int(idle.sum())} of {len(values)} bars only repeat the price before, the last row "
            f"{row}: leave out bars without a trade"
        )


def _spaced(seconds: int) -> str:
    for length, unit in ((86_400, "day"), (3600, "hour"), (60, "minute"), (1, "second")):
        if seconds >= length:
            number = round(seconds / length, 1)
            return f"{number:g} {unit}" + ("" if number == 1 else "s")
    return "less than a second"
