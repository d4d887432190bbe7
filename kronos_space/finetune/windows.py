"""Training windows of candles: tokens, time stamps, and the start of the loss.

A window has a leading part, which is like the history of a forecast, and the bars after that part.
Mean and deviation are computed from the leading part only, as in a forecast. The loss counts the
bars after the leading part. Mean and deviation of the whole window would reveal the future.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kronos_space.finetune.data_split import Days, Spans
from kronos_space.finetune.errors import FinetuneError
from kronos_space.forecasting.candles import CLIP, EPSILON, normalise
from kronos_space.forecasting.timestamps import time_features
from kronos_space.model.tokenizer import KronosTokenizer

ENCODED_AT_ONCE = 64  # windows; limits the memory
VALIDATION_AHEAD = 16  # bars of a validation window in the loss
VALIDATION_WINDOWS = 128
MAX_TRAINING_WINDOWS = 4096  # drawn once, then reused
MAX_SHIFT_WEEKS = 26  # maximum number of weeks by which the days of a training window are shifted


@dataclass(frozen=True)
class Series:
    """The candles of one ticker."""

    symbol: str
    days: Days  # (n,)
    values: NDArray[np.float64]  # (n, 6), columns as in forecasting.candles.COLUMNS


@dataclass(frozen=True)
class Windows:
    """Tokenised windows, all of one length."""

    s1: Tensor  # int64 (windows, bars)
    s2: Tensor  # int64 (windows, bars)
    stamps: Tensor  # int64 (windows, bars, 5)
    lead: Tensor  # int64 (windows,): number of bars in the leading part

    def __len__(self) -> int:
        return len(self.lead)

    def at(self, rows: Tensor) -> "Windows":
        """Return the windows at these positions."""
        return Windows(self.s1[rows], self.s2[rows], self.stamps[rows], self.lead[rows])


def training_windows(
    series: Sequence[Series],
    spans: Spans,
    bars: int,
    count: int,
    rng: np.random.Generator,
    tokenizer: KronosTokenizer,
) -> Windows:
    """Draw windows over tickers and time that end by `spans.train_until`.

    The probability of a ticker is proportional to its bars. The leading part is half of the window
    to nearly all of it. The days of a window are shifted by whole weeks: weekdays stay the same,
    but weekday, day and month no longer identify the session. Otherwise a model would memorise the
    market's move of each session, which all tickers share.

    Raises:
        FinetuneError: No ticker has a whole window.
    """
    ends = [int(np.searchsorted(ticker.days, spans.train_until, side="right")) for ticker in series]
    starts = np.array([max(0, end - bars + 1) for end in ends])
    if not starts.sum():
        longest = max(ends, default=0)
        raise FinetuneError(
            f"no ticker has {bars} bars up to {spans.train_until}, the longest has {longest}: "
            "give earlier candles, or a later --until"
        )
    of = rng.choice(len(series), size=min(count, MAX_TRAINING_WINDOWS), p=starts / starts.sum())
    begin = [int(rng.integers(starts[number])) for number in of]
    lead = rng.integers(bars // 2, bars - 1, size=len(of))
    chosen = [
        (series[number], at, int(length))
        for number, at, length in zip(of, begin, lead, strict=True)
    ]
    weeks = rng.integers(-MAX_SHIFT_WEEKS, MAX_SHIFT_WEEKS + 1, size=len(of))
    return _tokenised(chosen, bars, tokenizer, weeks)


def validation_windows(
    series: Sequence[Series], spans: Spans, bars: int, tokenizer: KronosTokenizer
) -> Windows:
    """Return windows whose counted bars are in the validation span, evenly over tickers and time.

    Raises:
        FinetuneError: No ticker has such a window.
    """
    lead = bars - VALIDATION_AHEAD
    found = []
    for ticker in series:
        first = int(np.searchsorted(ticker.days, spans.validate_from))
        end = int(np.searchsorted(ticker.days, spans.until, side="right"))
        begins = range(max(0, first - lead), end - bars + 1, VALIDATION_AHEAD)
        found += [(ticker, begin, lead) for begin in begins]
    if not found:
        raise FinetuneError(
            f"no ticker has {bars} bars up to {spans.until}: give earlier candles, or a later "
            "--until"
        )
    chosen = np.linspace(0, len(found) - 1, min(len(found), VALIDATION_WINDOWS)).astype(int)
    return _tokenised(
        [found[number] for number in chosen], bars, tokenizer, np.zeros(len(chosen), "int64")
    )


def _tokenised(
    chosen: Sequence[tuple[Series, int, int]],
    bars: int,
    tokenizer: KronosTokenizer,
    weeks: NDArray[np.int64],
) -> Windows:
    s1, s2 = [], []
    for first in range(0, len(chosen), ENCODED_AT_ONCE):
        values = np.stack(
            [
                scaled_by_lead(ticker.values[begin : begin + bars], lead)
                for ticker, begin, lead in chosen[first : first + ENCODED_AT_ONCE]
            ]
        )
        with torch.inference_mode():
            coarse, fine = tokenizer.encode(torch.from_numpy(values))
        s1.append(coarse)
        s2.append(fine)
    stamps = np.stack(
        [
            time_features((ticker.days[begin : begin + bars] + 7 * moved).astype("datetime64[us]"))
            for (ticker, begin, _), moved in zip(chosen, weeks, strict=True)
        ]
    )
    return Windows(
        s1=torch.cat(s1).clone(),
        s2=torch.cat(s2).clone(),
        stamps=torch.from_numpy(stamps),
        lead=torch.tensor([lead for _, _, lead in chosen]),
    )


def scaled_by_lead(values: NDArray[np.float64], lead: int) -> NDArray[np.float32]:
    """Normalise a window (bars, 6) by the mean and deviation of its first `lead` bars."""
    values = values.copy()
    if not values[:lead, 4].any():  # a Space is sent no volume if none is known
        values[:, 4:] = 0.0
    leading, scale = normalise(values[:lead])
    later = (values[lead:] * scale.factor - scale.mean) / (scale.std + EPSILON)
    both: NDArray[np.float32] = np.concatenate([leading, later.clip(-CLIP, CLIP)]).astype("float32")
    return both
