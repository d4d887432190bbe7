"""The output of `kronosbot status`: tables and problems, or one JSON document.

  {"exit_code": 1, "problems": ["2 of 100 active tickers are stale: GLD, QQQ"], "error": null,
   "now": "2026-11-22T21:00:00+00:00", "database": "postgresql+psycopg2://me:***@db/bots",
   "source": "yahoo", "clock": …,                time up to which sessions count as complete
   "runs": [{"state": "ok",                      or failed, running, killed; newest first
             "started_at": …, "seconds": 41.2, "exit_code": 0, "counts": {"active": 100, …},
             "model": "NeoQuasar/Kronos-mini", "source": "yahoo", "shard": "0/1",
             "message": null,
             "reconstruction_error": 0.0039,     median error of the tokenizer's last close
             "durations": {"wake": 30.1, …},     seconds by phase
             "error": null}, …],                 type of the error that ended it
   "models": [{"name": "NeoQuasar/Kronos-mini", "interval": "1d",
               "as_of": "2026-11-20T00:00:00", "tickers": 100, "fresh": 98,
               "record": "all tickers, last 60 sessions: error 1.03 …",
               "challenger": false,              true if bots are not given its forecasts
               "trial": null,                    state of a challenger's trial, in words
               "shares": {"kronos": 0.15, …},    served weights; null: Kronos alone
               "skills": {"raw": -0.07, "calibrated": …, "combined": …, "served": …}}],
   "active": 100,                                tickers
   "stale": [{"symbol": "QQQ", "as_of": null, "behind": null, "why": "no forecast"},
             {"symbol": "GLD", "as_of": …, "behind": 2, "why": "2 sessions behind 2026-11-20"}],
   "notes": [],                                  calendars that end within 60 days
   "inactive": ["AAPL"]}                         have a forecast, but are no longer active

If nothing can be read, the document is {"exit_code": 1, "error": {"kind": …, "message": …}}.
"""

from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from typing import Any

from rich.console import Console
from rich.table import Table

from tradingbot.cli.output import plain_table, print_line, print_table
from tradingbot.combination_shares import describe_shares
from tradingbot.formatting import duration, model_text
from tradingbot.jobs.status import Status
from tradingbot.persistence.runs import Run
from tradingbot.runtime.printable import shortened

RUNS_WIDTH, MODELS_WIDTH = (
    20,
    35,
)  # maximum length of a model's name, so that the tables fit 80 columns
MAX_LINES = 20  # lines of stale tickers; the JSON document has all


def status_document(status: Status) -> dict[str, Any]:
    """Return the JSON document. Times of bars have no time zone; other times have one."""
    content = asdict(status)
    for moments, name in ((content, "now"), (content, "clock"), *_starts(content["runs"])):
        if moments[name] is not None:
            moments[name] = moments[name].replace(tzinfo=UTC)
    return {"exit_code": status.exit_code, "problems": content.pop("problems"), **content}


def _starts(runs: list[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], str]]:
    return ((run, "started_at") for run in runs)


def show_status(status: Status, console: Console) -> None:
    """Print tables, then the problems, or that there are none."""
    say = partial(print_line, console, always_wrap=status.clock is not None)
    if status.clock is not None:
        say(f"Database  {status.database}")
        say(f"Clock     {_moment(status.clock)} UTC, by the source {status.source}")
        say()
    if status.runs:
        print_table(console, _runs_table(status))
        say()
        for line in _remark_lines(status):
            say(line)
    if status.models:
        print_table(console, _models_table(status))
        say()
        for line in _record_lines(status):
            say(line)
    for line in _stale_lines(status):
        say(line)
    for number, note in enumerate(status.notes):
        say(f"{'Note' if not number else '':8}  {note}")
    for line in _verdict(status):
        say(line)


def _runs_table(status: Status) -> Table:
    table = plain_table(
        *("Run (UTC)", "Took", "Exit", "Stored", "There", "Failed", "Model"),
        left=("Run (UTC)", "Model"),
    )
    for run in status.runs:
        counts = [str(run.counts.get(name, "")) for name in ("stored", "already_there", "failed")]
        table.add_row(
            _moment(run.started_at),
            "" if run.seconds is None else duration(run.seconds),
            "" if run.exit_code is None else str(run.exit_code),
            *counts,
            shortened((run.model or "").rpartition("/")[2], RUNS_WIDTH),
        )
    return table


def _remark_lines(status: Status) -> Iterator[str]:
    """Yield a remark for each run that needs one."""
    remarks = [(run, _remark(run, status.now)) for run in status.runs]
    remarks = [(run, remark) for run, remark in remarks if remark]
    for number, (run, remark) in enumerate(remarks):
        yield f"{'Runs' if not number else '':8}  {_moment(run.started_at)} {remark}"
    if remarks:
        yield ""


def _remark(run: Run, now: datetime) -> str:
    remark = run.message or ""
    if run.state == "running":
        remark = f"running for {duration((now - run.started_at).total_seconds())}"
    if run.state == "killed":
        remark = "never finished: killed?"
    return remark if run.shard == "0/1" else f"shard {run.shard} {remark}".rstrip()


def _models_table(status: Status) -> Table:
    table = plain_table(
        *("Model", "Interval", "Freshest as of", "Tickers", "Fresh"),
        left=("Model", "Interval", "Freshest as of"),
    )
    for model in status.models:
        as_of = "not known"
        if model.as_of is not None:
            as_of = f"{model.as_of:%Y-%m-%d}" if model.interval == "1d" else _moment(model.as_of)
        table.add_row(
            _model(model.name), model.interval, as_of, str(model.tickers), str(model.fresh)
        )
    return table


def _model(name: str) -> str:
    """Return the model's name, with the purpose of a small model. Shorten the text to fit."""
    return shortened(model_text(name), MODELS_WIDTH)


def _record_lines(status: Status) -> Iterator[str]:
    known = [model for model in status.models if model.record is not None]
    for number, model in enumerate(known):
        yield f"{'Record' if not number else '':8}  {model.name}: {model.record}"
    for model in status.models:
        if model.challenger:
            yield f"{'Beside':8}  {model.name}: {model.trial or 'in shadow, no trial yet'}"
        if model.shares is not None:
            yield f"{'Bands':8}  {model.name}: {describe_shares(model.shares)}"
        if len(model.skills) > 1:  # otherwise Kronos alone was served
            skills = ", ".join(f"{name} {100 * of:+.1f} %" for name, of in model.skills.items())
            yield f"{'Skill':8}  {model.name}: {skills}"
    if known:
        yield ""


def _stale_lines(status: Status) -> Iterator[str]:
    """Yield a line for each stale ticker, the worst first, then the inactive tickers."""
    width = max((len(ticker.symbol) for ticker in status.stale), default=0)
    for number, ticker in enumerate(status.stale[:MAX_LINES]):
        as_of = f"as of {ticker.as_of:%Y-%m-%d}, " if ticker.as_of else ""
        head = "Stale" if not number else ""
        yield f"{head:8}  {ticker.symbol:{width}}  {as_of}{ticker.why}"
    if len(status.stale) > MAX_LINES:
        yield f"{'':8}  and {len(status.stale) - MAX_LINES} more: --json has them all"
    if status.inactive:
        names = ", ".join(status.inactive[:MAX_LINES])
        more = len(status.inactive) - MAX_LINES
        yield f"Inactive  {names}{f' and {more} more' if more > 0 else ''}: not judged"
    if status.stale or status.inactive:
        yield ""


def _verdict(status: Status) -> Iterator[str]:
    if status.problems:
        for number, problem in enumerate(status.problems):
            yield f"{'Problem' if not number else '':8}  {problem}"
        return
    fresh = f"{status.active - len(status.stale)} of {status.active} active tickers are fresh"
    rest = ", the rest waits for the next run" if status.stale else ""
    yield f"All well  {fresh}{rest}; the last run went well"


def _moment(when: datetime) -> str:
    return f"{when:%Y-%m-%d %H:%M}"
