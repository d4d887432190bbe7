"""The sentences of a report: how good the forecasts were, and what a ticker's newest one says."""

from datetime import datetime

from tradingbot.evaluation.baselines import MIN_RETURNS
from tradingbot.evaluation.metrics import MIN_FORECASTS, ForecastMetrics
from tradingbot.formatting import bar_text, price_text
from tradingbot.reports.figures import Estimate, Figures
from tradingbot.reports.record import INTERVAL, ForecastFan, Record, TickerRecord

UNKNOWN, MINUS, TIMES = "\N{EN DASH}", "\N{MINUS SIGN}", "\N{MULTIPLICATION SIGN}"


def headline(judged: Figures) -> str:
    """One honest sentence on the record."""
    overall, skill = judged.overall, judged.skill
    if overall is None:
        return "No record yet: none of these forecasts has met its outcome."
    if overall.crps_skill is None or skill is None:
        if overall.n >= MIN_FORECASTS:
            return (
                f"Not to be compared with a random walk: of {overall.n} forecasts too few have "
                f"{MIN_RETURNS} sessions of closes before them, or the closes never moved."
            )
        return (
            f"Too early to judge: {overall.n} forecasts have met their outcome, and a figure needs "
            f"{MIN_FORECASTS}."
        )
    if skill.low is None or skill.high is None:
        better = "better" if skill.value > 0 else "worse"
        return (
            f"{per_cent(abs(skill.value))} {better} than a random walk so far, but "
            f"{overall.sessions} sessions are too few to tell skill from luck."
        )
    span = range_of(skill)
    if skill.low > 0:
        return f"Better than a random walk: by {per_cent(skill.value)} ({span})."
    if skill.high < 0:
        return f"Worse than a random walk: by {per_cent(-skill.value)} ({range_of(skill, -1)})."
    return (
        f"No better than a random walk, as far as one can tell: skill {per_cent(skill.value)} "
        f"({span})."
    )


def waiting(record: Record) -> str:
    """Of forecasts whose days have not come: how many, and when the first figures can be had."""
    first = min(one.fan.days[0] for one in record.tickers)
    return f"The first of the newest forecasts is for {bar_text(first, INTERVAL)}."


def record_of(measures: ForecastMetrics) -> str:
    """error 1.03 x tomorrow-equals-today, 80 % band held 78 %, direction right 51 % (45 to 57)."""
    if measures.mase is None and measures.n >= MIN_FORECASTS:
        return "nothing to measure it by: the closes never moved"
    if measures.mase is None:
        return f"too few forecasts with an outcome to say: {measures.n} of {MIN_FORECASTS}"
    said = [f"error {measures.mase:.2f} {TIMES} that of tomorrow equals today"]
    if measures.coverage_80 is not None:
        said.append(f"the 80 % band held {per_cent(measures.coverage_80)} of the closes")
    if measures.hit_rate is not None:
        low, high = measures.hit_low, measures.hit_high
        span = "" if low is None or high is None else f" ({100 * low:.0f} to {100 * high:.0f})"
        said.append(f"direction right {per_cent(measures.hit_rate)}{span}")
    return ", ".join(said)


def bands_in_words(calibration: str) -> str:
    """Of one forecast."""
    return "raw, as the model gives them" if calibration == "raw" else f"calibrated: {calibration}"


def calibration_in_words(record: Record) -> str:
    """Of all newest forecasts together."""
    kinds = {one.fan.calibration for one in record.tickers}
    if len(kinds) == 1:
        return f"bands {bands_in_words(kinds.pop())}"
    raw = sum(one.fan.calibration == "raw" for one in record.tickers)
    return "bands calibrated" + (
        f", but raw for {raw} of {len(record.tickers)} tickers" if raw else ""
    )


def ticker_in_words(one: TickerRecord) -> str:
    """What the newest forecast says of the last of its days."""
    fan = one.fan
    p10, _, median, _, p90 = (price_text(price) for price in fan.quantiles[:, -1])
    return (
        f"As of {bar_text(fan.as_of, INTERVAL)}, last close {price_text(fan.last_close)}: "
        f"by {bar_text(fan.days[-1], INTERVAL)} the median is {median} ({move(fan)}), the "
        f"80 % band {p10} to {p90} (bands {bands_in_words(fan.calibration)})."
    )


def move(fan: ForecastFan) -> str:
    """+0.4 %: the median of the last day against the last close."""
    return f"{100 * (fan.quantiles[2, -1] / fan.last_close - 1):+.1f} %".replace("-", MINUS)


def per_cent(share: float | None, digits: int = 0) -> str:
    """0.784 -> 78 %; a dash for what is not known."""
    if share is None:
        return UNKNOWN
    return f"{100 * share:.{digits}f} %".replace("-", MINUS).replace(f"{MINUS}0 %", "0 %")


def range_of(estimate: Estimate, sign: int = 1) -> str:
    """-2 to 4, the 95 % interval in per cent."""
    if estimate.low is None or estimate.high is None:
        return UNKNOWN
    low, high = sorted((sign * estimate.low, sign * estimate.high))
    return f"{100 * low:.0f} to {100 * high:.0f}".replace("-", MINUS)


def moment(when: datetime) -> str:
    return f"{when:%Y-%m-%d %H:%M}"
