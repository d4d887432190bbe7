"""The sentences of a report about the record and each ticker's newest forecast."""

from datetime import datetime

from tradingbot.combination_shares import describe_bands, describe_shares, mean_shares
from tradingbot.evaluation.baselines import MIN_RETURNS
from tradingbot.evaluation.metrics import MIN_FORECASTS, ForecastMetrics
from tradingbot.evaluation.ticker_comparison import compare_tickers
from tradingbot.forecast import RAW, short_revision
from tradingbot.formatting import bar_text, model_text, price_text
from tradingbot.persistence.runs import bad_runs
from tradingbot.postprocessing.conformal import MIN_FORECASTS as TO_COMBINE
from tradingbot.postprocessing.conformal import MIN_SESSIONS as SESSIONS_TO_COMBINE
from tradingbot.reports.figures import Estimate, Figures
from tradingbot.reports.record import INTERVAL, ForecastFan, Record

UNKNOWN, MINUS, TIMES = "\N{EN DASH}", "\N{MINUS SIGN}", "\N{MULTIPLICATION SIGN}"


def headline(figures: Figures) -> str:
    """Return one sentence that sums up the record."""
    overall, skill = figures.overall, figures.skill
    if overall is None:
        return "No record yet: none of these forecasts has an outcome."
    if overall.crps_skill is None or skill is None:
        if overall.n >= MIN_FORECASTS:
            return (
                f"No comparison with a random walk: too few of {overall.n} forecasts have "
                f"{MIN_RETURNS} sessions of closes before them, or the closes never moved."
            )
        return (
            f"Too early to judge: {overall.n} forecasts have an outcome; {MIN_FORECASTS} are "
            "needed."
        )
    if skill.low is None or skill.high is None:
        better = "better" if skill.value > 0 else "worse"
        return (
            f"{percent(abs(skill.value))} {better} than a random walk so far, but "
            f"{overall.sessions} sessions are too few to tell skill from luck."
        )
    span = interval_text(skill)
    if skill.low > 0:
        return f"Better than a random walk: by {percent(skill.value)} ({span})."
    if skill.high < 0:
        return f"Worse than a random walk: by {percent(-skill.value)} ({interval_text(skill, -1)})."
    return f"No significant difference from a random walk: skill {percent(skill.value)} ({span})."


def summary(record: Record, figures: Figures) -> str:
    """Return the sentences that say what the headline is based on."""
    overall = figures.overall
    if overall is None:
        first = min(ticker.fan.days[0] for ticker in record.tickers)
        return f"The first of the newest forecasts is for {bar_text(first, INTERVAL)}."
    if overall.relative_mae is None:
        return "Until then the forecasts below have no record."
    return (
        f"{overall.n:,} forecasts of {len(figures.tickers)} tickers, "
        f"{overall.first_target:%Y-%m-%d} to {overall.last_target:%Y-%m-%d}: "
        f"{describe_metrics(overall)}.{_beside_the_ewma_walk(overall)}"
    )


def _beside_the_ewma_walk(metrics: ForecastMetrics) -> str:
    if metrics.ewma_skill is None:
        return ""
    return (
        f" Compared with a random walk at the volatility of the time, the skill is "
        f"{percent(metrics.ewma_skill, 1)}."
    )


def coming(record: Record, figures: Figures) -> str:
    """Return when the statistics will appear; used while there are too few outcomes."""
    overall = figures.overall
    have, nights = (0, 0) if overall is None else (overall.n, overall.sessions)
    if have >= MIN_FORECASTS:
        return "These statistics need closes that move, and a year of them before each forecast:"
    ahead = [len(ticker.fan.days) for ticker in record.tickers]
    left, sessions = MIN_FORECASTS - have, 0
    while left > 0:
        sessions += 1
        left -= sum(min(nights + sessions, horizon) for horizon in ahead)
    after = "1 more session" if sessions == 1 else f"{sessions} more sessions"
    return (
        f"The closes of each night's forecasts are known after the following sessions. "
        f"{MIN_FORECASTS} are needed, which takes {after} if the job runs every night; then you "
        "see here:"
    )


def shares_in_words(record: Record) -> str:
    """Return a sentence if some shares are not served yet, else ""."""
    if all(share.served for share in record.shares):
        return ""
    return (
        f"Bots get combined forecasts once each is learnt from {TO_COMBINE} forecasts "
        f"on {SESSIONS_TO_COMBINE} sessions."
    )


def parts_in_words(record: Record) -> str:
    """Return what the rows for each stage of postprocessing cover, and what the intervals mean."""
    if record.backtest:
        return (
            "All rows are of the same forecasts, each using only what was known before it. Skills "
            "have 95 % intervals from resampled sessions."
        )
    return (
        "Raw is the model alone. Bots get the best stage that the record allows. Each row counts "
        "all forecasts that have it. The 95 % intervals of the skill stay valid if you look every "
        "night."
    )


def tickers_compared(figures: Figures) -> str:
    """Return how many tickers are better or worse than a random walk; "" if none is tested."""
    verdict = str(compare_tickers(figures.tickers))
    return verdict and f"{verdict}."


def facts(record: Record) -> str:
    """Return how the newest forecasts were made, and when the report was written."""
    revision = f" revision {short_revision(record.revision)}" if record.revision else ""
    return "; ".join(
        (
            f"{model_text(record.model)}{revision}, {record.samples} paths per ticker",
            *_reconstruction(record),
            f"walked forward in {record.backtest}"
            if record.backtest
            else describe_all_bands(record),
            f"candles from {record.status.source}",
            f"written {minute(record.status.now)} UTC",
        )
    )


def _reconstruction(record: Record) -> list[str]:
    """Return the tokenizer's reconstruction error, from the newest run that recorded it."""
    errors = (run.reconstruction_error for run in record.status.runs if run.model == record.model)
    error = next((known for known in errors if known is not None), None)
    if error is None:
        return []
    return [f"its tokenizer's median error on the last close is {percent(error, 2)}"]


def notes(record: Record) -> list[str]:
    """Return what is missing or failed, one sentence each."""
    problems = [] if record.backtest else bad_runs(record.status.runs)
    return [
        *map(_sentence, problems),
        *record.notes,
    ]


def _sentence(problem: str) -> str:
    end = "" if problem.endswith((".", "?")) else "."
    return f"{problem[:1].upper()}{problem[1:]}{end}"


def ticker_record(metrics: ForecastMetrics | None) -> str:
    """Return how good one ticker's forecasts were, or None without outcomes."""
    if metrics is None:
        return "Record: no forecast has an outcome yet."
    n = "" if metrics.relative_mae is None else f" of {metrics.n:,} forecasts"
    return f"Record{n}: {describe_metrics(metrics)}."


def describe_metrics(metrics: ForecastMetrics) -> str:
    """Format metrics as one sentence.

    Example: error 1.03 x that of "tomorrow equals today", the 80 % band held 78 % of the closes.
    """
    if metrics.relative_mae is None and metrics.n >= MIN_FORECASTS:
        return "no statistics: the closes never moved"
    if metrics.relative_mae is None:
        return f"too few forecasts with an outcome: {metrics.n} of {MIN_FORECASTS}"
    parts = [f'error {metrics.relative_mae:.2f} {TIMES} that of "tomorrow equals today"']
    if metrics.coverage_80 is not None:
        span = range_text(metrics.coverage_80_low, metrics.coverage_80_high)
        parts.append(f"the 80 % band held {percent(metrics.coverage_80)}{span} of the closes")
    if metrics.hit_rate is not None:
        hit_range = range_text(metrics.hit_low, metrics.hit_high)
        parts.append(f"direction right {percent(metrics.hit_rate)}{hit_range}")
    return ", ".join(parts)


def describe_all_bands(record: Record) -> str:
    """Return how the bands of the newest forecasts were made."""
    fans = [ticker.fan for ticker in record.tickers]
    kinds = {describe_bands(fan.calibration, fan.shares) for fan in fans}
    if len(kinds) == 1:
        return f"bands {kinds.pop()}"
    raw = sum(fan.calibration == RAW for fan in fans)
    but = f", but raw for {raw} of {len(fans)} tickers" if raw else ""
    combined = [fan.shares for fan in fans if fan.shares is not None]
    if not combined:
        return f"bands calibrated{but}"
    return f"bands {describe_shares(mean_shares(combined))}{but}"


def describe_forecast(fan: ForecastFan) -> str:
    """Return a ticker's newest forecast for its last day in words."""
    p10, _, median, _, p90 = (price_text(price) for price in fan.quantiles[:, -1])
    return (
        f"As of {bar_text(fan.as_of, INTERVAL)}, last close {price_text(fan.last_close)}: "
        f"by {bar_text(fan.days[-1], INTERVAL)} the median is {median} ({median_change(fan)}), the "
        f"80 % band {p10} to {p90} (bands {describe_bands(fan.calibration, fan.shares)})."
        f"{_outside(fan)}"
    )


def _outside(fan: ForecastFan) -> str:
    """Return a sentence if Kronos' own mean lies outside the served band."""
    days = sum(
        not low <= mean <= high
        for low, mean, high in zip(fan.quantiles[0], fan.mean, fan.quantiles[-1], strict=True)
    )
    if fan.shares is None or not days:
        return ""
    return (
        f" Kronos' own mean lies outside that band on {days} of {len(fan.days)} days: "
        f"{price_text(fan.mean[-1])} on the last."
    )


def median_change(fan: ForecastFan) -> str:
    """Format the last day's median relative to the last close: +0.4 %."""
    return f"{100 * (fan.quantiles[2, -1] / fan.last_close - 1):+.1f} %".replace("-", MINUS)


def percent(share: float | None, digits: int = 0) -> str:
    """Format a share: 0.784 -> 78 %; a dash if unknown."""
    if share is None:
        return UNKNOWN
    return f"{100 * share:.{digits}f} %".replace("-", MINUS).replace(f"{MINUS}0 %", "0 %")


def interval_text(estimate: Estimate, sign: int = 1, digits: int = 0) -> str:
    """Format a 95 % interval in per cent: -2 to 4."""
    if estimate.low is None or estimate.high is None:
        return UNKNOWN
    low, high = sorted((sign * estimate.low, sign * estimate.high))
    ends = (f"{round(100 * end, digits) + 0.0:.{digits}f}" for end in (low, high))
    return " to ".join(ends).replace("-", MINUS)


def range_text(low: float | None, high: float | None) -> str:
    """Format a share's 95 % interval in per cent: (45 to 57); "" if unknown."""
    return "" if low is None or high is None else f" ({100 * low:.0f} to {100 * high:.0f})"


def minute(when: datetime) -> str:
    return f"{when:%Y-%m-%d %H:%M}"
