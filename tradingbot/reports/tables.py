"""Rows of a report's tables: each cell's text, and its sort key."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from tradingbot.evaluation.metrics import MIN_FORECASTS, ForecastMetrics
from tradingbot.evaluation.track_record import relative_mae
from tradingbot.forecast import short_revision
from tradingbot.formatting import bar_text, price_text
from tradingbot.persistence.models import ALL_EVENTS, KronosEventScore, KronosScore
from tradingbot.persistence.runs import Run
from tradingbot.reports.events import Chances
from tradingbot.reports.figures import Estimate, Figures
from tradingbot.reports.record import INTERVAL, ForecastFan, Record
from tradingbot.reports.text import UNKNOWN, interval_text, median_change, percent, range_text

METRICS = (
    "Forecasts", "CRPS skill", "EWMA skill", "Error", "50 % held", "80 % held", "90 % held",
    "Direction",
)  # fmt: skip
# the metrics that also exist for the quantiles of other models and stages
QUANTILE_METRICS = tuple(name for name in METRICS if name not in ("Error", "Direction"))
# the columns that fit into the table of tickers
TICKER_METRICS = ("Forecasts", "CRPS skill", "Error", "80 % held", "Direction")

EVENT_COLUMNS = ("Event", "Chances", "Said", "Happened", "Brier score", "Skill")
BIN_COLUMNS = ("Chance said", "Chances", "Said", "Happened")


@dataclass(frozen=True)
class Value:
    """A cell of a sortable column."""

    text: str
    sort_by: float | None  # None sorts last


Metrics = dict[str, Value]  # keys: METRICS


@dataclass(frozen=True)
class StepRow:
    """Metrics at one step ahead, or of all steps together."""

    ahead: str
    metrics: Metrics


@dataclass(frozen=True)
class RankingRow:
    """A ticker's newest forecast at its last session, and its record."""

    number: int  # index of the ticker in the record
    symbol: str
    until: datetime
    median: Value
    band: Value  # the 80 % band
    up: Value  # probability of a higher close
    metrics: Metrics


def metric_values(
    metrics: ForecastMetrics | KronosScore | None, skill: Estimate | None = None
) -> Metrics:
    """Return the values of METRICS; dashes where there are too few forecasts."""
    if metrics is None:
        return {"Forecasts": Value("0", 0), **{name: Value(UNKNOWN, None) for name in METRICS[1:]}}
    few = relative_mae(metrics) is None and metrics.n < MIN_FORECASTS
    span = (
        f" ({interval_text(skill, digits=1)})"
        if skill is not None and skill.low is not None
        else ""
    )
    error, rate = relative_mae(metrics), metrics.hit_rate
    return {
        "Forecasts": Value(f"{metrics.n}, too few" if few else f"{metrics.n:,}", metrics.n),
        "CRPS skill": Value(percent(metrics.crps_skill, 1) + span, metrics.crps_skill),
        "EWMA skill": Value(percent(metrics.ewma_skill, 1), metrics.ewma_skill),
        "Error": Value(UNKNOWN if error is None else f"{error:.2f}", error),
        "50 % held": Value(percent(metrics.coverage_50), metrics.coverage_50),
        "80 % held": Value(
            percent(metrics.coverage_80)
            + range_text(metrics.coverage_80_low, metrics.coverage_80_high),
            metrics.coverage_80,
        ),
        "90 % held": Value(percent(metrics.coverage_90), metrics.coverage_90),
        "Direction": Value(percent(rate) + range_text(metrics.hit_low, metrics.hit_high), rate),
    }


def part_values(metrics: ForecastMetrics | KronosScore) -> Metrics:
    """Return `metric_values` with the stored interval of the skill."""
    if metrics.crps_skill is None:
        return metric_values(metrics)
    skill = Estimate(metrics.crps_skill, metrics.skill_low, metrics.skill_high)
    return metric_values(metrics, skill)


def step_rows(figures: Figures) -> Iterator[StepRow]:
    """Yield the metrics by step ahead, then of all steps together."""
    for step, metrics, skill in figures.steps:
        yield StepRow(f"{step}", metric_values(metrics, skill))
    if figures.overall is not None:
        yield StepRow("all", metric_values(figures.overall, figures.skill))


def has_skill(figures: Figures) -> bool:
    """Return whether any ticker has enough forecasts for a skill."""
    return any(metrics.crps_skill is not None for metrics in figures.tickers.values())


def ranking_rows(record: Record, figures: Figures) -> list[RankingRow]:
    """Return one row per ticker, best skill first; then those without skill, by name."""
    rows = [
        _ranking_row(number, ticker.symbol, ticker.fan, figures.tickers.get(ticker.symbol))
        for number, ticker in enumerate(record.tickers)
    ]

    def order(row: RankingRow) -> tuple[bool, float]:
        skill = row.metrics["CRPS skill"].sort_by
        return skill is None, -(skill or 0)

    return sorted(rows, key=order)


def _ranking_row(
    number: int, symbol: str, fan: ForecastFan, metrics: ForecastMetrics | None
) -> RankingRow:
    p10, _, median, _, p90 = fan.quantiles[:, -1]
    up = fan.prob_up[-1]
    return RankingRow(
        number=number,
        symbol=symbol,
        until=fan.days[-1],
        median=Value(median_change(fan), median / fan.last_close),
        band=Value(f"{price_text(p10)} to {price_text(p90)}", (p90 - p10) / fan.last_close),
        up=Value(percent(up), up),
        metrics=metric_values(metrics),
    )


def forecast_rows(fan: ForecastFan) -> Iterator[tuple[str, ...]]:
    """Yield for each session: the day, a price per level of BANDS, and P(up)."""
    for day, prices, up in zip(fan.days, fan.quantiles.T, fan.prob_up, strict=True):
        texts = (price_text(price) if price == price else UNKNOWN for price in prices)
        yield bar_text(day, INTERVAL), *texts, percent(up)


def model_name(score: KronosScore) -> str:
    """Return the model with the first digits of its revision."""
    return f"{score.model_name} {short_revision(score.model_revision)}".strip()


def run_outcome(run: Run) -> str:
    """Return how a job's run ended: ok, failed (1), running, killed; and its shard."""
    shard = "" if run.shard == "0/1" else f", shard {run.shard}"
    return f"failed ({run.exit_code}){shard}" if run.state == "failed" else f"{run.state}{shard}"


def chance_rows(chances: Chances, steps: int) -> list[tuple[str, ...]]:
    """Return one row per event: its name, and its probability by the end of each bar."""
    return [
        (event, *(percent(of_event.get(step)) for step in range(1, steps + 1)))
        for event, of_event in chances.items()
    ]


def event_rows(scores: Sequence[KronosEventScore]) -> list[tuple[str, ...]]:
    """Return one row per event with EVENT_COLUMNS; all events together come last."""
    last = sorted(scores, key=lambda score: (score.event == ALL_EVENTS, score.event))
    return [
        (
            "All" if score.event == ALL_EVENTS else score.event,
            f"{score.n:,}" if score.brier is not None else f"{score.n}, too few",
            percent(score.mean_probability),
            percent(score.frequency),
            UNKNOWN if score.brier is None else f"{score.brier:.3f}",
            percent(score.brier_skill) + range_text(score.skill_low, score.skill_high),
        )
        for score in last
    ]


def all_events(scores: Sequence[KronosEventScore]) -> KronosEventScore | None:
    """Return the score of all events together, or None if nothing was scored."""
    return next((score for score in scores if score.event == ALL_EVENTS), None)
