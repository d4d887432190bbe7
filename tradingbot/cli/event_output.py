"""The event scores that `kronosbot score` prints: quality and reliability of the probabilities."""

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from rich.console import Console
from sqlalchemy import Row

from tradingbot.cli.output import plain_table, print_line, print_table
from tradingbot.evaluation.event_scoring import EventScoring
from tradingbot.evaluation.metrics import MIN_FORECASTS
from tradingbot.persistence.models import ALL_EVENTS, ALL_STEPS, ALL_SYMBOLS

EXPLAINED = (
    "Mean: mean probability; Rate: share that happened;",
    "Brier: mean of (probability - outcome) squared;",
    "Skill: 1 - Brier ÷ that of always forecasting the rate, above 0 is better",
)


def show_events(found: EventScoring, rows: Sequence[Row[Any]], console: Console) -> None:
    """Print the scores of each model over all tickers and steps, and its reliability table.

    Prints nothing if no events were stored. `rows` are from kronos_event_scores.
    """

    def record(row: Row[Any]) -> tuple[str, str, str]:
        return row.model_name, row.model_revision, row.interval

    measured = False
    for (model, revision, interval), of_record in groupby(sorted(rows, key=record), record):
        whole = [row for row in of_record if (row.symbol, row.step) == (ALL_SYMBOLS, ALL_STEPS)]
        all_events = next((row for row in whole if row.event == ALL_EVENTS), None)
        if all_events is None:  # only some tickers have been scored so far
            continue
        name = f"{model} ({revision})" if revision else model
        print_line(
            console, f"{name}, {interval}: {all_events.n} event probabilities with an outcome"
        )
        if all_events.brier is None:
            print_line(console, f"Too few to say anything: {all_events.n} of {MIN_FORECASTS}")
        else:
            measured = True
            _show_scores([*(row for row in whole if row is not all_events), all_events], console)
            _show_reliability(all_events.bins, console)
        print_line(console)
    if measured:
        for line in EXPLAINED:
            print_line(console, line)
    if found.waiting:
        print_line(console, f"{found.waiting} event probabilities wait for their session")


def _show_scores(rows: Sequence[Row[Any]], console: Console) -> None:
    columns = ("Event", "n", "Mean", "Rate", "Brier", "Skill", "(95 %)")
    table = plain_table(*columns, left=("Event", "(95 %)"), gap=1)
    for row in rows:
        interval = ""
        if row.skill_low is not None:
            interval = f"({row.skill_low:+.2f} to {row.skill_high:+.2f})"
        table.add_row(
            "all" if row.event == ALL_EVENTS else row.event,
            str(row.n) if row.brier is not None else f"{row.n}, too few",
            *(_number(value, ".0%") for value in (row.mean_probability, row.frequency)),
            _number(row.brier, ".3f"),
            _number(row.brier_skill, "+.2f"),
            interval,
        )
    print_table(console, table)


def _show_reliability(bins: Sequence[dict[str, Any]], console: Console) -> None:
    table = plain_table("Probability", "n", "Mean", "Rate", "(95 %)", left=("(95 %)",), gap=1)
    for row in bins:
        table.add_row(
            f"{100 * row['from']:.0f} to {100 * row['to']:.0f} %",
            str(row["n"]),
            f"{row['probability']:.0%}",
            f"{row['frequency']:.0%}",
            f"({100 * row['low']:.0f} to {100 * row['high']:.0f})" if "low" in row else "",
        )
    print_table(console, table)


def _number(value: float | None, style: str) -> str:
    return "" if value is None else format(value, style)
