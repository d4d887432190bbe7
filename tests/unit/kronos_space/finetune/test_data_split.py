"""The split of the days into training, validation and final evaluation."""

from datetime import date

import numpy as np
import pytest

from kronos_space.finetune.data_split import split
from kronos_space.finetune.errors import FinetuneError

DAYS = np.arange("2015-01-01", "2018-01-01", dtype="datetime64[D]")


@pytest.mark.parametrize("until", [None, date(2016, 3, 1), date(2017, 9, 1)])
@pytest.mark.parametrize("purge", [1, 5, 20])
def test_the_spans_follow_each_other_with_a_gap_and_do_not_overlap(
    until: date | None, purge: int
) -> None:
    spans = split(DAYS, until, purge)
    assert DAYS[0] < spans.train_until < spans.validate_from < spans.until < spans.newest
    between = DAYS[(spans.train_until < DAYS) & (spans.validate_from > DAYS)]
    assert len(between) == purge
    assert spans.newest == DAYS[-1]
    if until:
        assert spans.until == np.datetime64(until)


@pytest.mark.parametrize(
    ("until", "message"),
    [
        (date(2017, 12, 20), r"--until=2017-12-20: .* 11 sessions are left for the verdict"),
        (date(2019, 1, 1), "0 sessions are left for the verdict"),
        (date(2015, 2, 1), "32 sessions are left to learn from and at least 91 are needed"),
        (date(2001, 1, 1), "0 sessions are left to learn from"),
    ],
)
def test_too_few_days_in_a_span_are_an_error_that_says_what_to_do(
    until: date, message: str
) -> None:
    with pytest.raises(FinetuneError, match=message) as refused:
        split(DAYS, until, 5)
    assert "give" in str(refused.value)


def test_no_candles_at_all_are_reported() -> None:
    with pytest.raises(FinetuneError, match="there are no candles"):
        split(DAYS[:0], None, 5)
