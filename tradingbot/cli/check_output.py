"""What `kronosbot check` prints: tables and a line per finding, or one JSON document.

{"exit_code": 1, "error": null, "source": "csv:candles", "interval": "1d",
 "clock": "2026-11-20T21:00:00+00:00",
 "tickers": [{"symbol": "EZJ.L", "verdict": "refused", "calendar": "XLON", "bars": 300,
              "first": "2025-09-17T00:00:00", "last": "2026-11-20T00:00:00", "error": null,
              "findings": [{"kind": "scale", "action": "refused",
                            "bar": "2026-11-18T00:00:00", "figure": 0.01, "text": "…"}],
              "notes": []}],
 "models": [{"name": "tuned", "role": "challenger", "verdict": "ok", "space": "me/kronos",
             "served_as": "me/tuned", "revision": "3f1c0d5e", "note": null}]}
"""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC
from typing import Any

from rich.console import Console

from tradingbot.cli.output import plain_table, print_line, print_table
from tradingbot.formatting import bar_text
from tradingbot.jobs.check import Check, Checked
from tradingbot.jobs.model_check import CheckedModel


def check_document(check: Check) -> dict[str, Any]:
    """Return the JSON document."""
    return {
        "exit_code": check.exit_code,
        "source": check.source,
        "interval": check.interval,
        "clock": check.clock.replace(tzinfo=UTC),
        "tickers": [_ticker(ticker) for ticker in check.tickers],
        "models": [asdict(model) for model in check.models],
    }


def _ticker(ticker: Checked) -> dict[str, Any]:
    return {
        "symbol": ticker.symbol,
        "verdict": ticker.verdict,
        "calendar": ticker.calendar,
        "bars": ticker.bars,
        "first": ticker.first,
        "last": ticker.last,
        "error": ticker.error,
        "findings": [
            {
                "kind": str(finding.kind),
                "action": str(action),
                "bar": finding.bar,
                "figure": finding.figure,
                "text": finding.text,
            }
            for finding, action in ticker.findings
        ],
        "notes": ticker.notes,
    }


def show_check(check: Check, console: Console) -> None:
    """Print a table of the tickers with a line for each finding, then the same of the models."""
    table = plain_table(
        *("Ticker", "Verdict", "Calendar", "Bars", "From", "To", "Findings"),
        left=("Ticker", "Verdict", "Calendar", "From", "To", "Findings"),
    )
    for ticker in check.tickers:
        kinds = [str(finding.kind) for finding, _ in ticker.findings]
        table.add_row(
            ticker.symbol,
            ticker.verdict,
            ticker.calendar or "",
            str(ticker.bars),
            *("" if day is None else bar_text(day, check.interval) for day in _ends(ticker)),
            ", ".join(kinds),
        )
    print_table(console, table)
    lines = [
        (str(action), ticker.symbol, finding.text)
        for ticker in check.tickers
        for finding, action in ticker.findings
    ]
    lines += [
        ("refused", checked.symbol, checked.error)
        for checked in check.tickers
        if checked.error is not None
    ]
    lines += [("note", checked.symbol, note) for checked in check.tickers for note in checked.notes]
    if lines:
        print_line(console)
    for action, symbol, text in lines:
        print_line(console, f"{action:8}  {symbol}: {text}")
    if check.models:
        _show_models(check.models, console)


def _show_models(models: Sequence[CheckedModel], console: Console) -> None:
    print_line(console)
    head = ("Model", "Role", "Verdict", "Revision", "Space")
    table = plain_table(*head, left=head)
    for model in models:
        name, revision = model.served_as or model.name, (model.revision or "")[:19]
        table.add_row(name, model.role, model.verdict, revision, model.space)
    print_table(console, table)
    notes = [(model.verdict, model.name, model.note) for model in models if model.note]
    if notes:
        print_line(console)
    for verdict, name, note in notes:
        print_line(console, f"{verdict:8}  {name}: {note}")


def _ends(ticker: Checked) -> tuple[Any, Any]:
    return ticker.first, ticker.last
