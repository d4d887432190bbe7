"""`kronosbot status`: how the nightly job is doing."""

import sys
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from tradingbot.cli.options import DatabaseOption, given_source
from tradingbot.cli.output import fail
from tradingbot.errors import KronosError
from tradingbot.formatting import duration
from tradingbot.jobs.status import Status
from tradingbot.persistence.runs import Run
from tradingbot.runtime.logs import to_json
from tradingbot.runtime.streams import SafeStream
from tradingbot.settings import Settings, check_whole


def status(
    source: Annotated[
        str | None,
        typer.Option(
            metavar="SOURCE",
            help="By whose clock tickers are judged, and whose they are. "
            "[env KRONOS_DATA_SOURCE; default that of the last run]",
        ),
    ] = None,
    database_url: DatabaseOption = None,
    max_age: Annotated[
        str,
        typer.Option(
            metavar="SESSIONS",
            help="How far behind a forecast may be before that is a problem. Between the close "
            "of an exchange and the nightly run 1 is normal; say 0 right after a run.",
        ),
    ] = "1",
    as_json: Annotated[
        bool, typer.Option("--json", help="Print all of it as one JSON document.")
    ] = False,
) -> None:
    """Show the last runs, the freshest forecasts, and what is stale.

    Reads the database and nothing else. Stale is an active ticker without a forecast, or with
    one that is older than the latest complete session of its exchange.

    Exit codes, for monitoring: 0 all is well; 1 something is stale beyond --max-age, the last run
    failed or was killed, nothing is there yet, or the database is out of reach; 2 a wrong setting.

    \b
    Try it:
      kronosbot status
      kronosbot status --json | jq .problems
    """
    from tradingbot.jobs.status import read_status
    from tradingbot.persistence.url import database_url as configured_url

    out = SafeStream(sys.stdout)
    try:
        settings = Settings.from_env()
        found = read_status(
            database_url or configured_url(),
            settings,
            source=given_source(source, settings),
            max_age=check_whole("--max-age", max_age, 0, 10_000),
        )
    except KronosError as error:
        fail(error, as_json=as_json)
    if as_json:
        out.write(to_json({**status_document(found), "error": None}) + "\n")
    else:
        show_status(found, Console(file=out.as_text()))
    out.flush()
    raise typer.Exit(found.exit_code)


MOST_LINES = 20  # of stale tickers; the document has all


def status_document(status: Status) -> dict[str, Any]:
    """All of it, as the module's docstring shows it. Moments say their zone, bars do not."""
    content = asdict(status)
    for moments, name in ((content, "now"), (content, "clock"), *_starts(content["runs"])):
        if moments[name] is not None:
            moments[name] = moments[name].replace(tzinfo=UTC)
    return {"exit_code": status.exit_code, "problems": content.pop("problems"), **content}


def _starts(runs: list[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], str]]:
    return ((run, "started_at") for run in runs)


def show_status(status: Status, console: Console) -> None:
    """Tables, then what is wrong, or that nothing is."""
    if status.clock is not None:
        _say(console, f"Database  {status.database}")
        _say(console, f"Clock     {_moment(status.clock)} UTC, by the source {status.source}")
        _say(console, "")
    if status.runs:
        console.print(_runs_table(status))
        console.print()
    if status.models:
        console.print(_models_table(status))
        console.print()
        for line in _record_lines(status):
            _say(console, line)
    for line in _stale_lines(status):
        _say(console, line)
    for line in _verdict(status):
        _say(console, line)


def _runs_table(status: Status) -> Table:
    table = _table("Run (UTC)", "Took", "Exit", "Stored", "There", "Failed", "Model")
    remarks = [_remark(run, status.now) for run in status.runs]
    if any(remarks):
        table.add_column("")
    for run, remark in zip(status.runs, remarks, strict=True):
        counts = [str(run.counts.get(name, "")) for name in ("stored", "already_there", "failed")]
        table.add_row(
            _moment(run.started_at),
            "" if run.seconds is None else duration(run.seconds),
            "" if run.exit_code is None else str(run.exit_code),
            *counts,
            run.model or "",
            *([remark] if any(remarks) else []),
        )
    return table


def _remark(run: Run, now: datetime) -> str:
    remark = run.message or ""
    if run.state == "running":
        remark = f"running for {duration((now - run.started_at).total_seconds())}"
    if run.state == "killed":
        remark = "never finished: killed?"
    return remark if run.shard == "0/1" else f"shard {run.shard} {remark}"


def _models_table(status: Status) -> Table:
    table = _table("Model", "Interval", "Freshest as of", "Tickers", "Fresh")
    for model in status.models:
        as_of = "not known"
        if model.as_of is not None:
            as_of = f"{model.as_of:%Y-%m-%d}" if model.interval == "1d" else _moment(model.as_of)
        table.add_row(model.name, model.interval, as_of, str(model.tickers), str(model.fresh))
    return table


def _record_lines(status: Status) -> Iterator[str]:
    known = [model for model in status.models if model.record is not None]
    for number, model in enumerate(known):
        yield f"{'Record' if not number else '':8}  {model.name}: {model.record}"
    if known:
        yield ""


def _stale_lines(status: Status) -> Iterator[str]:
    """One a ticker, the worst first; then those that are not judged."""
    width = max((len(ticker.symbol) for ticker in status.stale), default=0)
    for number, ticker in enumerate(status.stale[:MOST_LINES]):
        as_of = f"as of {ticker.as_of:%Y-%m-%d}, " if ticker.as_of else ""
        head = "Stale" if not number else ""
        yield f"{head:8}  {ticker.symbol:{width}}  {as_of}{ticker.why}"
    if len(status.stale) > MOST_LINES:
        yield f"{'':8}  and {len(status.stale) - MOST_LINES} more: --json has them all"
    if status.inactive:
        some = ", ".join(status.inactive[:MOST_LINES])
        more = len(status.inactive) - MOST_LINES
        yield f"Inactive  {some}{f' and {more} more' if more > 0 else ''}: not judged"
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


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in columns:
        text = name in ("Run (UTC)", "Model", "Interval", "Freshest as of")
        table.add_column(name, justify="left" if text else "right", no_wrap=True)
    return table


def _say(console: Console, line: str) -> None:
    console.print(line, markup=False, highlight=False, soft_wrap=True)


def _moment(when: datetime) -> str:
    return f"{when:%Y-%m-%d %H:%M}"
