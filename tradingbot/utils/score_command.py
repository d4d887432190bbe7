"""`kronosbot score`: how good the forecasts were."""

import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tradingbot.errors import DatabaseError, KronosError
from tradingbot.runtime.logs import to_json
from tradingbot.runtime.progress import ProgressReporter
from tradingbot.runtime.signals import Stopped, stop_on_signals
from tradingbot.runtime.streams import SafeStream
from tradingbot.settings import Settings, check_symbols
from tradingbot.utils.command_parts import DatabaseOption, fail, given_source

if TYPE_CHECKING:
    from sqlalchemy import Row

    from tradingbot.evaluation.scoring import Scoring


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

        from tradingbot.utils.score_view import show_scores

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
    from tradingbot.persistence.engine import database_url, get_db_session, init_db, redact
    from tradingbot.persistence.locks import open_lock
    from tradingbot.persistence.models import ALL_SYMBOLS, KronosForecast, KronosScore
    from tradingbot.persistence.runs import last_source
    from tradingbot.persistence.url import database_exists
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
