"""`kronosbot score`: how good the forecasts were."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from itertools import groupby
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from sqlalchemy import Row

from tradingbot.cli.options import DatabaseOption, given_source
from tradingbot.cli.output import fail
from tradingbot.errors import DatabaseError, KronosError
from tradingbot.evaluation.metrics import MIN_FORECASTS
from tradingbot.evaluation.scoring import Scoring
from tradingbot.persistence.models import ALL_SESSIONS, ALL_STEPS, ALL_SYMBOLS
from tradingbot.runtime.logs import to_json
from tradingbot.runtime.progress import ProgressReporter
from tradingbot.runtime.signals import Stopped, stop_on_signals
from tradingbot.runtime.streams import SafeStream
from tradingbot.settings import Settings, check_symbols


def score(
    source: Annotated[
        str | None,
        typer.Option(
            metavar="SOURCE",
            help="Where candles come from: yahoo, csv:DIR or sample. [env KRONOS_DATA_SOURCE; "
            "default that of the last run]",
        ),
    ] = None,
    symbols: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,...",
            help="These tickers only; the record of all together stays as it is. Default: all.",
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option(metavar="NAME", help="This model only. Default: all.")
    ] = None,
    database_url: DatabaseOption = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print all scores as one JSON document.")
    ] = False,
) -> None:
    """Compare every stored forecast whose session is complete with what came.

    Stores the record of each model, ticker and step ahead in kronos_scores, and shows it. Every
    nightly run does so too. Fewer than 30 forecasts with an outcome are counted, not measured.

    Exit codes: 0 done, also while all forecasts wait for their sessions; 1 there are no forecasts,
    none could be compared, or the database is out of reach; 2 a wrong setting; 130 Ctrl-C, which
    loses nothing; 143 SIGTERM.

    \b
    Try it:
      kronosbot score
      kronosbot score --symbols SPY,QQQ --json | jq '.scores[] | select(.step == 0)'
    """
    out = SafeStream(sys.stdout)
    narrator = ProgressReporter()
    try:
        with narrator, stop_on_signals():
            wanted = None if symbols is None else list(check_symbols("--symbols", symbols))
            found, rows, database = _scored(source, wanted, model, database_url, narrator)
            narrator.end()
    except (KronosError, Stopped) as error:
        fail(error, as_json=as_json)
    code = 1 if found.unscored and not found.scored else 0
    if as_json:
        out.write(to_json({"exit_code": code, **_document(found, rows, database)}) + "\n")
    else:
        from rich.console import Console

        show_scores(found, rows, Console(file=out.as_text()))
    out.flush()
    raise typer.Exit(code)


def _scored(
    source: str | None,
    symbols: list[str] | None,
    model: str | None,
    url: str | None,
    narrator: ProgressReporter,
) -> "tuple[Scoring, Sequence[Row[Any]], str]":
    """What was scored, all that is stored of it by now, and the database without its password."""
    from sqlalchemy import select

    from tradingbot.data.service import DataService
    from tradingbot.evaluation.outcomes import closes_of
    from tradingbot.evaluation.scoring import score as count
    from tradingbot.persistence.engine import get_db_session, init_db
    from tradingbot.persistence.locks import open_lock
    from tradingbot.persistence.models import ALL_SYMBOLS, KronosForecast, KronosScore
    from tradingbot.persistence.runs import last_source
    from tradingbot.persistence.url import database_exists, database_url, redact
    from tradingbot.runtime.clock import utcnow

    settings = Settings.from_env()
    given = given_source(source, settings)
    url = url or database_url()
    database = redact(url)
    way_out = "`kronosbot run` makes them; or set DATABASE_URL, or say --database-url"
    if not database_exists(url):
        raise DatabaseError(f"there is no {database} yet, and no forecasts: {way_out}")
    init_db(url)
    sessions = partial(get_db_session, url)
    forecasts = select(KronosForecast.symbol).limit(1)
    if model is not None:
        forecasts = forecasts.where(KronosForecast.model_name == model)
    if symbols is not None:
        forecasts = forecasts.where(KronosForecast.symbol.in_(symbols))
    with sessions() as session:
        if session.scalar(forecasts) is None:
            which = "such" if model is not None or symbols is not None else "any"
            raise DatabaseError(f"{database} has no forecasts of {which} kind: {way_out}")
        source = given or last_source(session) or settings.data_source
    data = DataService(source, now=utcnow(), sessions=sessions)
    with open_lock(url, "scores") as lock:
        if not lock.try_exclusive():
            raise DatabaseError(f"another run is scoring, {lock.held_by()}: try again later")
        found = count(sessions, closes_of(data), model=model, symbols=symbols, narrator=narrator)
    table = KronosScore.__table__
    query = select(table).order_by(*table.primary_key)
    if model is not None:
        query = query.where(KronosScore.model_name == model)
    if symbols is not None:
        query = query.where(KronosScore.symbol.in_([*symbols, ALL_SYMBOLS]))
    with sessions() as session:
        return found, session.execute(query).all(), database


def _document(found: "Scoring", rows: "Sequence[Row[Any]]", database: str) -> dict[str, Any]:
    return {
        "error": None,
        "database": database,
        "scored": found.scored,
        "waiting": found.waiting,
        "unscored": [asdict(one) for one in found.unscored],
        "scores": [_as_dict(row) for row in rows],
    }


def _as_dict(row: "Row[Any]") -> dict[str, Any]:
    moment: datetime = row.scored_at  # a moment says its zone, a bar does not
    return {**row._mapping, "scored_at": moment.replace(tzinfo=UTC)}


MOST_TICKERS = 20  # the document has all

EXPLAINED = (
    "Error: mean error ÷ that of tomorrow-equals-today; Skill: 1 - CRPS ÷ a random walk's, above 0 "
    "is better;",
    "Held: share of closes inside the 50, 80 and 90 % bands; Direction: share right, and its 95 % "
    "interval;",
    "IC: correlation across tickers; p: that the skill is chance (Diebold-Mariano)",
)


def show_scores(found: Scoring, rows: Sequence[Row[Any]], console: Console) -> None:
    """A table a model, then what was not scored and why. rows: of kronos_scores."""

    def record(row: Row[Any]) -> tuple[str, str, str]:
        return row.model_name, row.model_revision, row.interval

    measured = False
    for (model, revision, interval), of_record in groupby(sorted(rows, key=record), record):
        some = list(of_record)
        name = f"{model} ({revision})" if revision else model
        whole = [row for row in some if (row.step, row.last_sessions) == (ALL_STEPS, ALL_SESSIONS)]
        together = [row for row in whole if row.symbol == ALL_SYMBOLS]
        n = together[0].n if together else sum(row.n for row in whole)
        _say(console, f"{name}, {interval}: {n} forecasts with an outcome")
        if any(row.mae is not None for row in some):
            measured = True
            _print(console, _table(some))
            console.print()
        else:
            _say(console, f"Too few to say anything: {n} of {MIN_FORECASTS}")
            _say(console, "")
    if measured:
        for line in EXPLAINED:
            _say(console, line)
    for line in found.in_words():
        _say(console, line)


def _table(rows: list[Row[Any]]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    names = (
        "Ticker",
        "Ahead",
        "SessionFactory",
        "n",
        "Error",
        "Skill",
        "p",
        "Held",
        "Direction",
        "IC",
    )
    for name in names:
        left = name in ("Ticker", "Ahead")
        table.add_column(name, justify="left" if left else "right", no_wrap=True)
    for row in _shown(rows):
        newest = f"last {row.last_sessions}" if row.last_sessions else str(row.sessions)
        table.add_row(
            "all" if row.symbol == ALL_SYMBOLS else row.symbol,
            "all" if row.step == ALL_STEPS else str(row.step),
            newest,
            str(row.n),
            *_figures(row),
        )
    return table


def _shown(rows: list[Row[Any]]) -> Iterator[Row[Any]]:
    """All tickers together by window and by step, then each ticker by itself."""
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
    yield from sorted(alone, key=lambda row: -row.n)[:MOST_TICKERS]


def _figures(row: Row[Any]) -> Iterator[str]:
    if row.mae is None:
        yield from ("too few", *[""] * 5)
        return
    yield _number(row.mase)
    yield _number(row.crps_skill, "+.2f")
    yield _number(row.dm_p_value)
    held = (row.coverage_50, row.coverage_80, row.coverage_90)
    yield " ".join(_number(share, ".0%") for share in held)
    interval = ""
    if row.hit_low is not None and row.hit_high is not None:
        interval = f" ({100 * row.hit_low:.0f}–{100 * row.hit_high:.0f})"  # noqa: RUF001
    yield _number(row.hit_rate, ".0%") + interval
    yield _number(row.rank_ic, "+.2f")


def _number(value: float | None, style: str = ".2f") -> str:
    return "" if value is None else format(value, style)


def _print(console: Console, table: Table) -> None:
    """All of it: in a pipe of 80 columns a long line is better than a figure that is cut off."""
    needed = console.measure(table, options=console.options.update(width=1000)).maximum
    console.print(table, width=max(needed, console.width), soft_wrap=True)


def _say(console: Console, line: str) -> None:
    console.print(line, markup=False, highlight=False, soft_wrap=True)
