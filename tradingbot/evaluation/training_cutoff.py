"""Training periods of known models.

A model has seen the days of its training period, so forecasts of these days prove little."""

from datetime import datetime, timedelta
from typing import Literal

InTraining = Literal["yes", "no", "unknown"]

# Kronos-mini, -small and -base: trained on data up to February 2024; a checkpoint was chosen by
# validation on March to May (according to the author in issue 204 of
# github.com/shiyu-coder/Kronos). The tickers are not published, so any may have been used.
_PUBLISHED = ("neoquasar/kronos-mini", "neoquasar/kronos-small", "neoquasar/kronos-base")
_TRAINED_UNTIL = datetime(2024, 2, 29)
_VALIDATED_UNTIL = datetime(2024, 5, 31)

# kronos-nano: the first 85 % of the candles of AAPL, IBM, MSFT, GOOG, the S&P 500, the NASDAQ and
# EURUSD. A model that has seen the indices of a day knows the market's move on that day, which is
# most of the move of each of its tickers. The same holds for EURUSD and other currencies.
_NANO_MARKET_UNTIL = datetime(2015, 12, 30)
_NANO_CURRENCIES_UNTIL = datetime(2017, 12, 22)


def in_training(model: str, symbol: str, target: datetime) -> InTraining:
    """Return whether `model` may have been trained on the ticker's or its market's candle of a day.

    Return "unknown" for unknown models, and for days used to validate the model.
    """
    base, until = tuned_until(model)
    if until is not None:
        return "yes" if target < until + timedelta(days=1) else in_training(base, symbol, target)
    name = model.lower()
    if name in _PUBLISHED:
        if target <= _TRAINED_UNTIL:
            return "yes"
        return "unknown" if target <= _VALIDATED_UNTIL else "no"
    if name == "kronos-nano":
        currency = symbol.upper().endswith("=X")
        until = _NANO_CURRENCIES_UNTIL if currency else _NANO_MARKET_UNTIL
        return "yes" if target < until + timedelta(days=1) else "no"
    return "unknown"


def trained_until(model: str) -> str:
    """Describe the training period."""
    base, until = tuned_until(model)
    if until is not None:
        return f"fine-tuned on candles up to {until:%Y-%m-%d}; {base}: {trained_until(base)}"
    name = model.lower()
    if name in _PUBLISHED:
        return "trained on candles up to February 2024, chosen by those of March to May 2024"
    if name == "kronos-nano":
        return (
            "trained on AAPL, IBM and MSFT up to 2011-03-17, GOOG up to 2011-11-14, the S&P 500 "
            "and the NASDAQ up to 2015-12-30, EURUSD up to 2017-12-22"
        )
    return "its training data are not known here"


def tuned_until(model: str) -> tuple[str, datetime | None]:
    """Return the base of a fine-tuned model and the last day that it has seen.

    The name of a fine-tuned model joins the base and the day: 'kronos-nano+2019-06-28'. For other
    names return None as the day.
    """
    base, plus, day = model.rpartition("+")
    try:
        return (base, datetime.strptime(day, "%Y-%m-%d")) if plus else (model, None)
    except ValueError:
        return model, None
