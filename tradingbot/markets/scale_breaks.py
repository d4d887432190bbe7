"""Detect breaks of scale: bars in another unit than those before them.

Examples are pounds among pence, shares before and after an unapplied split, or a currency with
fewer zeros. Real market moves can be as large, but look different:

- A break is between two bars: all prices of one are apart from all prices of the other. Crashes of
  a day (1987) and coins that fall all night (LUNA) move within their bars.
- The bar after a break is as calm as others. A bar after real news has many times the usual range.
- The following bars stay as calm as those before. Those of a stock like GameStop do not.
- On real news many more shares are traded than on the days before and after. A split raises the
  number of shares permanently by its ratio, but not their value.
- The ratio of a split is one of small numbers, within an ordinary overnight move.
- After a halt a share may reopen anywhere. Less than half or double is not taken for a break there.

For the newest bars there are no later ones to check calm and trade. Then above-average trade counts
as news, and the ratio must be a common one.
"""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tradingbot.markets.column_names import PRICES
from tradingbot.typing import Floats

MIN_FACTOR = 1.22  # below 5:4; smaller ratios look like any large move
_WINDOW = 40  # bars that define what is usual
_SIGMAS = 6.0  # in units of the usual move; smaller gaps are ordinary moves
_CALM = 3.5  # times the usual range of a bar; a larger range is not calm
_WIDE = 2.0  # times the usual range; above it a bar is wide, that is, not quite calm
_NEWS = 2.5  # times the usual volume
_NEWEST_NEWS, _WIDE_NEWS = 1.75, 1.25  # times the usual value of trade, for a calm and a wide bar
_CERTAIN = np.log(8)  # no calm bar moves that far from the previous one, for any ratio
_CERTAIN_NEWS = 4.0  # replaces all three; a real move that far needs far more trade than usual
_HALTED = np.log(1.9)  # after a halt; smaller moves are real
_LATER = 3  # bars needed to see whether a change lasts
# Ratios up to n:1, and n:2, n:3, n:4, n:5
_RATIOS = np.array(sorted({n / d for d in range(1, 6) for n in range(d + 1, 41 * d)}))
# reverse splits: n old shares become one
_WHOLE = np.array([2, 3, 4, 5, 6, 7, 8, 10, 12, 15, 20, 25, 30, 40, 50, 100])
_COMMON = np.array([5 / 4, 4 / 3, 3 / 2, *_WHOLE])


@dataclass(frozen=True)
class ScaleBreak:
    """A change of scale: prices are multiplied by `factor` between the previous bar and `bar`."""

    position: int
    bar: pd.Timestamp
    factor: float  # as measured

    @property
    def is_power_of_ten(self) -> bool:
        """Return whether the factor is near 10, 100, 1000 …, as for pence and pounds."""
        power = abs(np.log10(self.factor))
        return bool(round(power) >= 1 and abs(power - round(power)) < 0.05)

    @property
    def may_be_paid_out(self) -> bool:
        """Return whether a special dividend or a spin-off may explain the factor.

        Few companies pay out more than half of their value. Those are taken for splits.
        """
        return 0.49 < self.factor < 1

    @property
    def ratio(self) -> str:
        """Return the likely ratio in words: 20:1, 3:2, 1:10; a power of ten exactly."""
        up = self.factor > 1
        size = self.factor if up else 1 / self.factor
        if self.is_power_of_ten:
            nice = f"{10 ** round(np.log10(size)):,}:1"
        else:
            near = Fraction(_nearest(size)).limit_denominator(5) if size < 40 else round(size)
            nice = f"{near.numerator}:{near.denominator}"
        return ":".join(reversed(nice.split(":"))) if up else nice


def scale_breaks(bars: pd.DataFrame) -> list[ScaleBreak]:
    """Find the breaks in `bars`, (n, 4 or 5): open, high, low, close, volume. Oldest first."""
    if len(bars) < 3 or not (bars[PRICES].to_numpy("float64") > 0).all():
        return []
    logs = {name: np.log(bars[name].to_numpy("float64")) for name in bars if name != "volume"}
    steps = np.diff(logs["close"])
    gaps = logs["open"][1:] - logs["close"][:-1]
    apart = (logs["low"][1:] > logs["high"][:-1]) | (logs["high"][1:] < logs["low"][:-1])
    candidates = np.flatnonzero(apart & (np.abs(gaps) > np.log(MIN_FACTOR))) + 1
    spans = logs["high"] - logs["low"]
    volume = bars["volume"].to_numpy("float64") if "volume" in bars else None
    found = []
    after_halt = _after_halt(bars.index)
    for at in candidates.tolist():
        gap = float(gaps[at - 1])
        if after_halt[at] and abs(gap) < _HALTED:
            continue
        usual = _Usual.around(at, candidates, steps, gaps, spans)
        trade = None if volume is None else _trade(volume, at, gap)
        news = volume is not None and _is_news(
            volume, at, trade, wide=bool(spans[at] > _WIDE * usual.span), far=abs(gap) > _CERTAIN
        )
        if usual.is_break(at, gap, spans, trade) and not news:
            found.append(ScaleBreak(at, bars.index[at], float(np.exp(gap))))
    return found


@dataclass(frozen=True)
class _Usual:
    """Usual sizes of moves in the bars around one bar, as logarithms."""

    step: float  # from close to close, a standard deviation
    gap: float  # from close to open
    span: float  # from low to high
    calm_after: bool  # whether the following bars move like those before

    @classmethod
    def around(
        cls, at: int, candidates: NDArray[np.int64], steps: Floats, gaps: Floats, spans: Floats
    ) -> "_Usual":
        start, end = max(0, at - _WINDOW), min(len(spans), at + _WINDOW // 2)
        usual = np.setdiff1d(np.arange(start, end - 1), candidates - 1)  # of steps and gaps
        before, after = usual[usual < at - 1], usual[usual >= at]
        all_spans = np.setdiff1d(np.arange(start, end), [at])
        return cls(
            step=_deviation(steps[usual]),
            gap=_deviation(gaps[usual]),
            span=float(np.median(spans[all_spans])) if all_spans.size else 0.0,
            calm_after=_calm_after(before, after[:10], steps),
        )

    def is_break(self, at: int, gap: float, spans: Floats, trade: float | None) -> bool:
        size = abs(gap)
        if size < _SIGMAS * self.step or not self.calm_after:
            return False
        if self.span == 0:  # only closes are known, so calm cannot be checked
            near = 2.5 * self.step if size > _CERTAIN else min(self.step, 0.012)
            return size > np.log(1.4) and _is_near(size, near, _COMMON)
        if spans[at] > min(_CALM * self.span, max(size / 2, 1.5 * self.span)):
            return False
        tolerance = max(self.gap, self.step / 3)
        common = _is_near(size, 3.5 * tolerance, _COMMON if gap < 0 else _WHOLE)
        settled = at + _LATER < len(spans)
        # a real move with less trade than usual is unlikely
        idle = gap > 0 and trade is not None and trade < 1
        odd = (settled or idle) and _is_near(size, 2.5 * tolerance, _RATIOS)
        return size > _CERTAIN or common or odd


def _after_halt(times: pd.Index) -> NDArray[np.bool_]:
    """Return for each bar whether bars are missing before it: two weekdays, or some of its day."""
    wall = pd.DatetimeIndex(times).tz_localize(None).to_numpy()
    days, gaps = wall.astype("datetime64[D]"), np.diff(wall)
    steps = np.busday_count(days[:-1], days[1:])
    missing = steps > 2 * max(1.0, float(np.median(steps)))
    missing |= (days[1:] == days[:-1]) & (gaps > 1.5 * np.median(gaps))
    return np.append(False, missing)


def _deviation(moves: Floats) -> float:
    """Return a standard deviation that is robust against a few large moves."""
    return 1.4826 * float(np.median(np.abs(moves))) if moves.size else 0.0


def _calm_after(before: NDArray[np.int64], after: NDArray[np.int64], steps: Floats) -> bool:
    if len(before) < 5 or len(after) < 3:
        return True
    return _deviation(steps[after]) < 3.5 * _deviation(steps[before]) + 0.01


def _nearest(size: float) -> float:
    return float(_RATIOS[np.argmin(np.abs(np.log(_RATIOS) - np.log(size)))])


def _is_near(size: float, tolerance: float, ratios: Floats) -> bool:
    powers = 10.0 ** np.arange(1, 13)
    far = np.abs(np.log(np.concatenate([ratios, powers])) - size).min()
    return bool(far < min(max(tolerance, 0.004), 0.06))


def _trade(volume: Floats, at: int, gap: float) -> float | None:
    """Return the value of trade at the bar relative to the usual one, or None if unknown.

    If the gap is due to a split, volumes before and after it are in different units. Numbers of
    shares are therefore compared in units of value: a split raises the number of shares, but not
    the value of trade.
    """
    before = volume[max(0, at - _WINDOW // 2) : at]
    usual = float(np.median(before)) if before.size else 0.0
    if not usual or not volume[at]:
        return None
    # the previous day counts too, because busy days follow busy days
    return float(volume[at] / max(usual, before[-1]) * min(1.0, np.exp(gap)))


def _is_news(volume: Floats, at: int, trade: float | None, *, wide: bool, far: bool) -> bool:
    """Return whether the volume at bar `at` is far above that before and, if known, after it."""
    if trade is None:
        return False
    newest = _CERTAIN_NEWS if far else _WIDE_NEWS if wide else _NEWEST_NEWS
    usual = float(np.median(volume[max(0, at - _WINDOW // 2) : at]))
    after = volume[at + 1 : at + 1 + _WINDOW // 2]
    usual_after = float(np.median(after)) if after.size else 0.0
    if usual_after and min(volume[at] / usual, volume[at] / usual_after) > (
        _CERTAIN_NEWS if far else _NEWS
    ):
        return True
    settled = len(after) >= _LATER and usual_after > 0
    return not settled and trade > newest
