"""A training window shows the model only what it would know when it forecasts."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from kronos_space.finetune.data_split import split, union
from kronos_space.finetune.errors import FinetuneError
from kronos_space.finetune.windows import (
    VALIDATION_AHEAD,
    Series,
    Windows,
    scaled_by_lead,
    training_windows,
    validation_windows,
)
from kronos_space.forecasting.candles import CLIP, normalise
from kronos_space.forecasting.timestamps import time_features
from tests.support.finetuning import BARS, candles, tiny_model

MODEL, TOKENIZER = tiny_model()
SERIES = [candles("ABC", seed=1), candles("XYZ", bars=300, seed=2)]
SPANS = split(union([item.days for item in SERIES]), None, purge=5)


def drawn(series: list[Series]) -> Windows:
    return training_windows(series, SPANS, BARS, 50, np.random.default_rng(3), TOKENIZER)


def poisoned_after(series: Series, day: np.datetime64) -> Series:
    values = series.values.copy()
    values[series.days > day] *= 7.0
    return replace(series, values=values)


def same(first: Windows, second: Windows) -> bool:
    return all(torch.equal(one, other) for one, other in zip(
        vars(first).values(), vars(second).values(), strict=True))  # fmt: skip


def test_later_prices_do_not_change_training_windows() -> None:
    assert same(
        drawn(SERIES), drawn([poisoned_after(series, SPANS.train_until) for series in SERIES])
    )


def test_later_prices_do_not_change_validation_windows() -> None:
    before = validation_windows(SERIES, SPANS, BARS, TOKENIZER)
    poisoned = [poisoned_after(series, SPANS.until) for series in SERIES]
    assert same(before, validation_windows(poisoned, SPANS, BARS, TOKENIZER))


def test_validation_windows_contain_the_validation_span() -> None:
    before = validation_windows(SERIES, SPANS, BARS, TOKENIZER)
    poisoned = [poisoned_after(series, SPANS.validate_from) for series in SERIES]
    assert not same(before, validation_windows(poisoned, SPANS, BARS, TOKENIZER))


@pytest.mark.parametrize("lead", [16, 20, BARS - 1])
def test_a_window_is_scaled_by_its_leading_part(lead: int) -> None:
    values = SERIES[0].values[:BARS]
    changed = values.copy()
    changed[lead:] *= 3.0
    leading, _ = normalise(values[:lead])
    for window in (values, changed):
        np.testing.assert_array_equal(scaled_by_lead(window, lead)[:lead], leading)
    later = scaled_by_lead(values, lead)[lead:]
    _, scale = normalise(values[:lead])
    whole = abs(later) < CLIP  # beyond CLIP the model sees no difference
    assert whole.mean() > 0.5
    np.testing.assert_allclose(scale.restore(later)[whole], values[lead:][whole], rtol=1e-4)


def test_a_leading_part_is_half_a_window_or_more_and_leaves_bars_to_forecast() -> None:
    windows = drawn(SERIES)
    assert len(windows) == 50
    assert windows.lead.min() >= BARS // 2
    assert windows.lead.max() < BARS


def test_stamps_reveal_the_weekday_of_a_training_bar_but_not_its_session() -> None:
    short_series = replace(SERIES[0], days=SERIES[0].days[:BARS], values=SERIES[0].values[:BARS])
    until = replace(SPANS, train_until=short_series.days[-1])  # all windows contain the same bars
    windows = training_windows([short_series], until, BARS, 20, np.random.default_rng(3), TOKENIZER)
    stamps = windows.stamps[..., 2:]  # weekday, day, month
    real = torch.from_numpy(time_features(short_series.days.astype("datetime64[us]")))[:, 2:]
    assert torch.equal(stamps[..., 0], real[:, 0].expand(20, BARS))
    assert len({tuple(first.tolist()) for first in stamps[:, 0]}) > 10


def test_validation_loss_counts_only_the_last_bars() -> None:
    windows = validation_windows(SERIES, SPANS, BARS, TOKENIZER)
    assert set(windows.lead.tolist()) == {BARS - VALIDATION_AHEAD}


def test_tickers_with_too_few_bars_are_reported_with_the_longest() -> None:
    with pytest.raises(FinetuneError, match=r"no ticker has 5000 bars up to .*the longest has"):
        training_windows(SERIES, SPANS, 5000, 10, np.random.default_rng(0), TOKENIZER)
