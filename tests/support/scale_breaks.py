"""Measure how often breaks of scale are found, and how often real moves are mistaken for them.

    python -m tests.support.scale_breaks csv:FOLDER    real daily candles, adjusted for splits
    python -m tests.support.scale_breaks sample

Splits, changes of unit, and overnight moves with more volume and wider bars are put into the
candles at random bars. Each case is judged when its bar is the newest, and some bars later.
"""

import argparse
from collections.abc import Sequence
from datetime import datetime

import numpy as np
import pandas as pd

from tradingbot.data.sources.registry import open_source
from tradingbot.markets.candles import clean
from tradingbot.markets.scale_breaks import scale_breaks

BEFORE = 150  # bars
LATER = (0, 1, 5, 20)
# a split changes price and volume; a change from pence to pounds leaves the volume
SPLITS = {
    "2:1": 2, "3:2": 3 / 2, "5:4": 5 / 4, "11:10": 11 / 10, "4:1": 4, "10:1": 10, "20:1": 20,
    "1:10": 1 / 10, "1:4": 1 / 4, "5:2": 5 / 2,
}  # fmt: skip
UNITS = {"x 100": 100, "x 0.01": 1 / 100, "x 1000": 1000}
MOVES = {"-30 %": 0.7, "-50 %": 0.5, "-60 %": 0.4, "-80 %": 0.2, "+50 %": 1.5, "+100 %": 2.0}
LOOKS = {"x 2": (2, 1), "x 4": (4, 1), "x 4, 3 wide": (4, 3), "x 10": (10, 1)}


def candles(source: str) -> list[pd.DataFrame]:
    """Return all daily candles of a source."""
    opened = open_source(source)
    span = datetime(1990, 1, 1), datetime(2100, 1, 1)
    frames = [clean(opened.fetch(symbol, "1d", *span))[0] for symbol in opened.symbols()]
    return [frame for frame in frames if len(frame) > BEFORE + max(LATER) + 10]


def drawn(frames: Sequence[pd.DataFrame], random: np.random.Generator, later: int) -> pd.DataFrame:
    """Return `BEFORE` bars, a random bar, and the `later` bars after it."""
    frame = frames[random.integers(len(frames))]
    at = int(random.integers(BEFORE, len(frame) - later))
    return frame.iloc[at - BEFORE : at + 1 + later].copy()


def split(frame: pd.DataFrame, ratio: float, *, of_shares: bool = True) -> pd.DataFrame:
    """Apply a split: rescale the bars before it to what was traded then."""
    frame.iloc[:BEFORE, :4] *= ratio
    if of_shares:
        frame.iloc[:BEFORE, 4] /= ratio
    return frame


def moved(frame: pd.DataFrame, factor: float, trade: float, wider: float) -> pd.DataFrame:
    """Apply a lasting overnight move, with a wider bar and more volume on its day."""
    frame.iloc[BEFORE:, :4] *= factor
    frame.iloc[BEFORE, 4] *= trade
    around = frame["open"].iloc[BEFORE]
    frame.iloc[BEFORE, :4] = around * (frame.iloc[BEFORE, :4] / around) ** wider
    return frame


def is_broken(frame: pd.DataFrame) -> bool:
    """Return whether the drawn bar is classified as a break."""
    return BEFORE in [scale_break.position for scale_break in scale_breaks(frame)]


def shares(frames: Sequence[pd.DataFrame], draws: int) -> pd.DataFrame:
    """Return the share of refused cases for each (case, bars later)."""
    rows: dict[str, list[float]] = {}
    for later in LATER:
        random = np.random.default_rng(5)
        for name, ratio in (SPLITS | UNITS).items():
            found = [
                is_broken(split(drawn(frames, random, later), ratio, of_shares=name in SPLITS))
                for _ in range(draws)
            ]
            rows.setdefault(f"split {name}" if name in SPLITS else name, []).append(np.mean(found))
        for move, factor in MOVES.items():
            for look, (trade, wider) in LOOKS.items():
                refused = [
                    is_broken(moved(drawn(frames, random, later), factor, trade, wider))
                    for _ in range(draws)
                ]
                rows.setdefault(f"{move}, trade {look}", []).append(np.mean(refused))
    return 100 * pd.DataFrame.from_dict(rows, orient="index", columns=list(LATER))


def real_breaks(frames: Sequence[pd.DataFrame]) -> tuple[int, int]:
    """Count the real bars classified as breaks, in whole series and as the newest bar, and all
    bars.

    A bar can be a break only if it opens far from the previous close.
    """
    taken = total = 0
    for frame in frames:
        total += len(frame)
        found = {scale_break.position for scale_break in scale_breaks(frame)}
        gaps = np.abs(np.log(frame["open"].to_numpy()[1:] / frame["close"].to_numpy()[:-1]))
        for at in (np.flatnonzero(gaps > np.log(1.05)) + 1).tolist():
            for end in (at + 1, at + 2, at + 4):
                recent = frame.iloc[max(0, at - 500) : end]
                if recent.index[-1] != frame.index[min(end, len(frame)) - 1]:
                    continue
                at_end = len(recent) - 1 - (min(end, len(frame)) - 1 - at)
                if at_end in [scale_break.position for scale_break in scale_breaks(recent)]:
                    found.add(at)
        taken += len(found)
    return taken, total


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("source")
    parser.add_argument("--draws", type=int, default=200)
    options = parser.parse_args(arguments)
    frames = candles(options.source)
    print(shares(frames, options.draws).round(1).to_string())
    print("real bars taken for breaks: {} of {}".format(*real_breaks(frames)))


if __name__ == "__main__":
    main()
