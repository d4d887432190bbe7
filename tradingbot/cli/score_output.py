"""The output of `kronosbot score`: a table per model, or one JSON document."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import groupby
from typing import Any

from rich.console import Console
from rich.table import Table
from sqlalchemy import Row

from tradingbot.cli.event_output import show_events
from tradingbot.cli.output import plain_table, print_line, print_table
from tradingbot.evaluation.close_outcomes import Unresolved
from tradingbot.evaluation.metrics import MIN_FORECASTS
from tradingbot.evaluation.rescoring import StoredScores
from tradingbot.evaluation.scoring import Scoring
from tradingbot.evaluation.ticker_comparison import TickerComparison, compare_tickers
from tradingbot.evaluation.track_record import relative_mae
from tradingbot.persistence.models import ALL_SESSIONS, ALL_STEPS, ALL_SYMBOLS, SERVED

MAX_TICKERS = 20  # rows; the JSON document has all
EXPLAINED = (
    "Error: mean error ÷ that of a no-change forecast; Skill: 1 - CRPS ÷ a random walk's, above 0 "
    "is better;",
    "EWMA: the same against a random walk with EWMA volatility; Held: share of closes inside "
    "the 50, 80,",
    "90 % bands; Direction: share right, and its 95 % interval; IC: correlation across tickers;",
    "p: two-sided p-value of the difference to the random walk",
    "(Diebold-Mariano; of single tickers adjusted for their number, Benjamini-Hochberg)",
)


def score_document(scores: StoredScores) -> dict[str, Any]:
    """Return the JSON document of a scoring, with all stored scores.

    `scores` holds the scores of the served forecasts. `parts` holds the scores of the raw, the
    calibrated and the combined quantiles. `events` holds the scores of event probabilities.
    """
    return {
        "error": None,
        "database": scores.database,
        "scored": scores.found.scored,
        "waiting": scores.found.waiting,
        "unscored": [_left_out(group) for group in scores.found.unscored],
        "scores": [_as_dict(row) for row in scores.rows if row.forecast == SERVED],
        "parts": [_as_dict(row) for row in scores.rows if row.forecast != SERVED],
        "events": [_as_dict(row) for row in scores.event_rows],
        "events_scored": scores.events.scored,
        "events_waiting": scores.events.waiting,
        "events_unscored": [_left_out(group) for group in scores.events.unscored],
    }


def _left_out(unresolved: Unresolved) -> dict[str, Any]:
    return {
        "symbol": unresolved.symbol,
        "model_name": unresolved.model_name,
        "reason": unresolved.text,
        "n": unresolved.n,
    }


def _as_dict(row: Row[Any]) -> dict[str, Any]:
    moment: datetime = row.scored_at  # written with a time zone, unlike the time of a bar
    return {**row._mapping, "scored_at": moment.replace(tzinfo=UTC)}


def show_stored(scores: StoredScores, console: Console) -> None:
    """Print the scores of forecasts, then those of events."""
    show_scores(scores.found, scores.rows, console)
    show_events(scores.events, scores.event_rows, console)


def show_scores(found: Scoring, rows: Sequence[Row[Any]], console: Console) -> None:
    """Print a table per model, then what was not scored and why. `rows` are from kronos_scores."""

    def record(row: Row[Any]) -> tuple[str, str, str]:
        return row.model_name, row.model_revision, row.interval

    measured = False
    for (model, revision, interval), of_record in groupby(sorted(rows, key=record), record):
        all_rows = list(of_record)
        served = [row for row in all_rows if row.forecast == SERVED]
        name = f"{model} ({revision})" if revision else model
        whole = [
            row for row in served if (row.step, row.last_sessions) == (ALL_STEPS, ALL_SESSIONS)
        ]
        together = [row for row in whole if row.symbol == ALL_SYMBOLS]
        n = together[0].n if together else sum(row.n for row in whole)
        print_line(console, f"{name}, {interval}: {n} forecasts with an outcome")
        if any(row.mae is not None for row in served):
            measured = True
            print_table(console, _table(served))
            _show_parts(all_rows, console)
            if verdict := str(_compared_tickers(served)):
                print_line(console, verdict)
            print_line(console)
        else:
            print_line(console, f"Too few to say anything: {n} of {MIN_FORECASTS}")
            print_line(console)
    if measured:
        for line in EXPLAINED:
            print_line(console, line)
    for line in found.remarks():
        print_line(console, line)


def _table(rows: list[Row[Any]]) -> Table:
    table = plain_table(
        *(
            "Ticker",
            "Ahead",
            "Sessions",
            "n",
            "Error",
            "Skill",
            "EWMA",
            "p",
            "Held",
            "Direction",
            "IC",
        ),
        left=("Ticker", "Ahead"),
        gap=1,
    )
    adjusted = _compared_tickers(rows).p_values
    for row in _shown(rows):
        newest = f"last {row.last_sessions}" if row.last_sessions else str(row.sessions)
        table.add_row(
            "all" if row.symbol == ALL_SYMBOLS else row.symbol,
            "all" if row.step == ALL_STEPS else str(row.step),
            newest,
            str(row.n),
            *_figures(row, adjusted.get(row.symbol, row.dm_p_value)),
        )
    return table


def _show_parts(rows: list[Row[Any]], console: Console) -> None:
    """Print the scores of the served forecast and of its raw, calibrated and combined quantiles.

    Print nothing if Kronos was served alone.
    """
    whole = (ALL_SYMBOLS, ALL_STEPS, ALL_SESSIONS)
    parts = {
        row.forecast: row for row in rows if (row.symbol, row.step, row.last_sessions) == whole
    }
    if parts.keys() <= {SERVED, "raw"}:
        return
    columns = ("Forecast", "n", "Skill", "(95 %)", "EWMA", "Held")
    table = plain_table(*columns, left=("Forecast", "(95 %)"), gap=1)
    for name in (SERVED, "raw", "calibrated", "combined"):
        if row := parts.get(name):
            interval = ""
            if row.skill_low is not None and row.skill_high is not None:
                interval = f"({row.skill_low:+.2f} to {row.skill_high:+.2f})"
            skills = _number(row.crps_skill, "+.3f"), interval, _number(row.ewma_skill, "+.3f")
            table.add_row(name, str(row.n), *skills, _held(row))
    print_table(console, table)


def _held(row: Row[Any]) -> str:
    shares = (row.coverage_50, row.coverage_80, row.coverage_90)
    return " ".join(_number(share, ".0%") for share in shares)


def _compared_tickers(rows: list[Row[Any]]) -> TickerComparison:
    """Compare the tickers, each over all steps and sessions."""
    whole = (ALL_STEPS, ALL_SESSIONS)
    return compare_tickers(
        {
            row.symbol: row
            for row in rows
            if row.symbol != ALL_SYMBOLS and (row.step, row.last_sessions) == whole
        }
    )


def _shown(rows: list[Row[Any]]) -> Iterator[Row[Any]]:
    """Yield the rows over all tickers by window and by step, then a row for each ticker."""
    together = [row for row in rows if row.symbol == ALL_SYMBOLS]
    sessions = max((row.sessions for row in together if row.step == ALL_STEPS), default=0)
    windows = [row for row in together if row.step == ALL_STEPS and row.last_sessions < sessions]
    yield from sorted(windows, key=lambda row: row.last_sessions or sessions, reverse=True)
    yield from (row for row in together if row.step and row.last_sessions == ALL_SESSIONS)
    alone = [
        row
        for row in rows
        if row.symbol != ALL_SYMBOLS and (row.step, row.last_sessions) == (ALL_STEPS, ALL_SESSIONS)
    ]
    yield from sorted(alone, key=lambda row: -row.n)[:MAX_TICKERS]


def _figures(row: Row[Any], p_value: float | None) -> Iterator[str]:
    if row.mae is None:
        yield from ("too few", *[""] * 6)
        return
    yield _number(relative_mae(row))
    yield _number(row.crps_skill, "+.2f")
    yield _number(row.ewma_skill, "+.2f")
    yield _number(p_value)
    yield _held(row)
    interval = ""
    if row.hit_low is not None and row.hit_high is not None:
        interval = f" ({100 * row.hit_low:.0f}–{100 * row.hit_high:.0f})"  # noqa: RUF001
    yield _number(row.hit_rate, ".0%") + interval
    yield _number(row.rank_ic, "+.2f")


def _number(value: float | None, style: str = ".2f") -> str:
    return "" if value is None else format(value, style)
