"""A forecast as text for a language model: its numbers, its age and its limits."""

import math
from datetime import datetime, timedelta

from tradingbot.ai.forecast_document import ForecastDocument
from tradingbot.combination_shares import describe_shares
from tradingbot.forecast import RAW
from tradingbot.formatting import bar_text, change_text, price_text
from tradingbot.runtime.clock import utcnow

_PLACES = {"stored": "from the database", "space": "from the Space"}


def forecast_text(forecast: ForecastDocument) -> str:
    """Return the numbers of a forecast with explanations and limits."""
    close = price_text(forecast.last_close)
    as_of = f"the close of {bar_text(forecast.as_of, '1d')}, which was {close}"
    late = forecast.sessions_missed
    model = forecast.model
    if model == "kronos-nano":
        model += " (a tiny model for demonstrations, not meant for trading)"
    record = forecast.track_record
    lines = [
        f"Kronos forecast of {forecast.symbol}, {len(forecast.predictions)} trading days ahead.",
        f"As of: {as_of}. That is the latest complete session."
        if not late
        else f"As of: {as_of}. OLD: {late} more sessions have closed since; it knows none of them.",
        f"Model: {model}; {_PLACES[forecast.source]}, made {_age(forecast.made_at)} ago.",
        *([] if record is None else [f"Its record: {record}."]),
        *(f"Note: {warning}" for warning in forecast.warnings),
        "",
        f"Day: {_expected(forecast)} (move from {close}), 10-90 % range, P(up)",
    ]
    for bar in forecast.predictions:
        low, middle, high = (bar.close_quantiles[level] for level in ("0.1", "0.5", "0.9"))
        expected = bar.close if forecast.shares is None else middle
        move = change_text(expected / forecast.last_close - 1)
        lines.append(
            f"{bar_text(bar.target_date, '1d')}: {price_text(expected)} "
            f"({move}), {price_text(low)} to {price_text(high)}, {bar.prob_up:.0%}"
        )
    return "\n".join(
        [
            *lines,
            *_events(forecast),
            "",
            _meaning(forecast, close),
            f"It knows the past daily candles of {forecast.symbol} and nothing else: no news, no "
            "earnings, no other market, nothing of today's trading. It is no certainty and no "
            "advice.",
        ]
    )


def _events(forecast: ForecastDocument) -> list[str]:
    """Return a line per event with its probability by the last day; nothing without events."""
    if not forecast.events:
        return []
    last = bar_text(forecast.predictions[-1].target_date, "1d")
    return [
        "",
        f"By the close of {last}, chance (and its Monte Carlo error):",
        *(
            f"{item.event}: {item.probability[-1]:.0%} ({item.low[-1]:.0%} to {item.high[-1]:.0%})"
            for item in forecast.events
        ),
    ]


def _meaning(forecast: ForecastDocument, close: str) -> str:
    """Explain P(up) and the range, and their origin: the model or past forecasts."""
    points = f"{50 / math.sqrt(forecast.samples):.0f} points or more"
    if forecast.calibration == RAW:
        return (
            f"P(up) is the share of {forecast.samples} simulated paths that close above {close}; "
            f"so few make it uncertain by {points}. The range is raw, as the model gives it, not "
            "calibrated: one path in five ends outside; the actual close may do so more often."
        )
    if forecast.shares is not None:
        return (
            f"Median, range and P(up), the chance of a close above {close}, are combined from "
            "several forecasts by how good each has been: "
            f"{describe_shares(forecast.shares)} ({forecast.calibration}). About one close in five "
            f"ends outside the range. {_alone(forecast)}"
        )
    return (
        f"P(up) is the chance of a close above {close}; it comes from {forecast.samples} simulated "
        f"paths, which makes it uncertain by {points}. The range is calibrated on past forecasts "
        f"of this model and their outcomes ({forecast.calibration}): about one close in five "
        "ends outside."
    )


def _expected(forecast: ForecastDocument) -> str:
    return "expected close" if forecast.shares is None else "median close"


def _alone(forecast: ForecastDocument) -> str:
    """Return the expected close of Kronos alone, and whether past forecasts justify it."""
    last = forecast.predictions[-1]
    outside = sum(
        not bar.close_quantiles["0.1"] <= bar.close <= bar.close_quantiles["0.9"]
        for bar in forecast.predictions
    )
    alone = f"Kronos alone expects a close of {price_text(last.close)} on the last day"
    if not outside:
        return f"{alone}."
    days = "1 day" if outside == 1 else f"{outside} days"
    return f"{alone}; on {days} it is outside the range, which its record does not support."


def _age(made_at: datetime) -> str:
    minutes = max(0, round((utcnow() - made_at) / timedelta(minutes=1)))
    for length, unit in ((1440, "day"), (60, "hour"), (1, "minute")):
        if minutes >= 2 * length or (minutes >= length and length > 1):
            number = minutes // length
            return f"{number} {unit}" + ("" if number == 1 else "s")
    return "less than two minutes"
