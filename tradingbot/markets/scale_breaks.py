"""Breaks of scale: bars in another unit than those before them.

Pounds among pence, shares before and after a split that was not applied, a currency with fewer
zeros. A market's own moves can be as large, and look different:

- A break is between two bars: all prices of one lie apart from all prices of the other. Crashes
  of a day (1987) and coins that fall all night (LUNA) move within their bars.
- The bar after a break is as calm as others. A bar after real news spans many times the usual.
- The bars that follow stay as calm as those before. A stock like GameStop's does not.
- On real news many more shares are traded than on the days before and after. With a split the
  number of shares goes up by its ratio for good, and not their value.
- The ratio of a split is one of small numbers, within an ordinary night's move.

Of the newest bars no later ones tell whether calm and trade stay. Then more trade than is usual
counts as news, and the ratio must be one that companies use often.
"""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tradingbot.markets.column_names import PRICES
from tradingbot.typing import Floats

SMALLEST = 1.22  # below 5:4; smaller ratios look like any large move
_WINDOW = 40  # bars that tell what is usual
_SIGMAS = 6.0  # of the usual move; less is a move as any
_CALM = 3.5  # times the usual span of a bar; more is no calm bar
_WIDE = 2.0  # times the usual span; of a bar that is not quite calm
_NEWS = 2.5  # times the usual volume
_NEWEST_NEWS, _WIDE_NEWS = 1.75, 1.25  # times the usual value of trade, of a calm or a wide bar
_CERTAIN = np.log(8)  # no calm bar is that far from the one before it, whatever the ratio
_CERTAIN_NEWS = 4.0  # in place of all three; only a stampede could move a calm bar so far
_LATER = 3  # bars that show whether what came with a break has stayed
# Ratios up to n:1, and n:2, n:3, n:4, n:5
_RATIOS = np.array(sorted({n / d for d in range(1, 6) for n in range(d + 1, 41 * d)}))
_WHOLE = np.array([2, 3, 4, 5, 6, 7, 8, 10, 12, 15, 20, 25, 30, 40, 50, 100])  # up: n old are one
_COMMON = np.array([5 / 4, 4 / 3, 3 / 2, *_WHOLE])


@dataclass(frozen=True)
class ScaleBreak:
    """Between the bar before `bar` and `bar`, prices are multiplied by `factor`."""

    position: int
    bar: pd.Timestamp
    factor: float  # as it was measured

    @property
    def is_power_of_ten(self) -> bool:
        """Whether it is near 10, 100, 1000 …, as pence and pounds are."""
        power = abs(np.log10(self.factor))
        return bool(round(power) >= 1 and abs(power - round(power)) < 0.05)

    @property
    def ratio(self) -> str:
        """The likely ratio in words: 20:1, 3:2, 1:10; a power of ten as it is."""
        up = self.factor > 1
        size = self.factor if up else 1 / self.factor
        if self.is_power_of_ten:
            nice = f"{10 ** round(np.log10(size)):,}:1"
        else:
            near = Fraction(_nearest(size)).limit_denominator(5) if size < 40 else round(size)
            nice = f"{near.numerator}:{near.denominator}"
        return ":".join(reversed(nice.split(":"))) if up else nice


def scale_breaks(bars: pd.DataFrame) -> list[ScaleBreak]:
    """Find the breaks in `bars`, (n, 4 or 5), oldest first: open, high, low, close, volume."""
    if len(bars) < 3 or not (bars[PRICES] > 0).all(axis=None):
        return []
    logs = {name: np.log(bars[name].to_numpy("float64")) for name in bars if name != "volume"}
    steps = np.diff(logs["close"])
    gaps = logs["open"][1:] - logs["close"][:-1]
    apart = (logs["low"][1:] > logs["high"][:-1]) | (logs["high"][1:] < logs["low"][:-1])
    candidates = np.flatnonzero(apart & (np.abs(gaps) > np.log(SMALLEST))) + 1
    spans = logs["high"] - logs["low"]
    volume = bars["volume"].to_numpy("float64") if "volume" in bars else None
    found = []
    for at in candidates.tolist():
        gap = float(gaps[at - 1])
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
    """What is usual around one bar: sizes of moves as logarithms."""

    step: float  # from close to close, a standard deviation
    gap: float  # from close to open
    span: float  # from low to high
    calm_after: bool  # whether the bars that follow move as those before

    @classmethod
    def around(
        cls, at: int, candidates: NDArray[np.int64], steps: Floats, gaps: Floats, spans: Floats
    ) -> "_Usual":
        start, end = max(0, at - _WINDOW), min(len(spans), at + _WINDOW // 2)
        others = np.setdiff1d(np.arange(start, end - 1), candidates - 1)  # of steps and gaps
        before, after = others[others < at - 1], others[others >= at]
        all_spans = np.setdiff1d(np.arange(start, end), [at])
        return cls(
            step=_deviation(steps[others]),
            gap=_deviation(gaps[others]),
            span=float(np.median(spans[all_spans])) if all_spans.size else 0.0,
            calm_after=_calm_after(before, after[:10], steps),
        )

    def is_break(self, at: int, gap: float, spans: Floats, trade: float | None) -> bool:
        size = abs(gap)
        if size < _SIGMAS * self.step or not self.calm_after:
            return False
        if self.span == 0:  # only closes are known: no bar tells whether it is calm
            return size > np.log(1.4) and _is_near(size, min(self.step, 0.012), _COMMON)
        if spans[at] > min(_CALM * self.span, max(size / 2, 1.5 * self.span)):
            return False
        tolerance = max(self.gap, self.step / 3)
        common = _is_near(size, 3.5 * tolerance, _COMMON if gap < 0 else _WHOLE)
        settled = at + _LATER < len(spans)
        idle = gap > 0 and trade is not None and trade < 1  # no news brings less trade than usual
        odd = (settled or idle) and _is_near(size, 2.5 * tolerance, _RATIOS)
        return size > _CERTAIN or common or odd


def _deviation(moves: Floats) -> float:
    """A standard deviation that a few large moves do not change."""
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
    """The value of trade at the bar, times the usual one; None if it is not known.

    That of shares before a split counts as theirs after it: a split raises their number, no value.
    """
    before = volume[max(0, at - _WINDOW // 2) : at]
    usual = float(np.median(before)) if before.size else 0.0
    if not usual or not volume[at]:
        return None
    # busy days follow busy days
    return float(volume[at] / max(usual, before[-1]) * min(1.0, np.exp(gap)))


def _is_news(volume: Floats, at: int, trade: float | None, *, wide: bool, far: bool) -> bool:
    """Whether many more shares were traded than before, and than after if that is known."""
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
