"""`kronosbot calibrate`: fit how wide the bands must be, and store it."""

import sys
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from tradingbot.cli.options import DatabaseOption, given_source
from tradingbot.cli.output import fail
from tradingbot.errors import KronosError
from tradingbot.runtime.logs import to_json
from tradingbot.runtime.signals import Stopped, stop_on_signals
from tradingbot.runtime.streams import SafeStream
from tradingbot.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from sqlalchemy.orm import Session

    from tradingbot.evaluation.outcomes import ForecastOutcomes, Unresolved
    from tradingbot.postprocessing.bands import Key
    from tradingbot.postprocessing.fit import Fit, Outcome


def calibrate(
    backtest: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.csv",
            help="Learn from this file, which `kronosbot backtest` has written, instead of from "
            "the stored forecasts. Days that the model was trained on are left out.",
        ),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(
            metavar="SOURCE",
            help="Where the closes come from that forecasts are compared with. "
            "[env KRONOS_DATA_SOURCE; default that of the last run]",
        ),
    ] = None,
    database_url: DatabaseOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Fit and print, but store nothing.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print all of it as one JSON document.")
    ] = False,
) -> None:
    """Fit how much wider each band must be, from forecasts whose outcome is known.

    The nightly job does this by itself once 100 forecasts on 30 sessions have their outcome. With
    --backtest bands can be calibrated before that. Forecasts that are stored stay as they are; the
    next ones take the new factors.

    Exit codes: 0 done, also where there is too little record and bands stay raw; 1 there are
    forecasts and none could be compared, or the database is out of reach; 2 a wrong setting or
    file; 130 Ctrl-C.

    \b
    Try it:
      kronosbot calibrate --dry-run
      kronosbot backtest --local --source sample --windows 100 --stride 1 --out record.csv
      kronosbot calibrate --backtest record.csv
    """
    out = SafeStream(sys.stdout)
    try:
        with stop_on_signals():
            found = _calibrate(backtest, source, database_url, dry_run=dry_run)
    except (KronosError, Stopped) as error:
        fail(error, as_json=as_json, left="nothing was stored")
    code = 1 if found.out_of_reach else 0
    if as_json:
        out.write(to_json({**_document(found), "exit_code": code, "error": None}) + "\n")
    else:
        _show(found, Console(file=out.as_text()))
    out.flush()
    raise typer.Exit(code)


@dataclass
class Found:
    """What came of it. `left_out`: why forecasts could not be compared, and how many."""

    fits: "list[Fit]" = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    earlier: "set[Key]" = field(default_factory=set)  # too little now, but factors from before
    rows: int = 0  # of kronos_calibrations
    stored_in: str | None = None  # None: a dry run

    @property
    def out_of_reach(self) -> bool:
        """Whether forecasts have their outcome, and none of them could be had."""
        from tradingbot.evaluation.outcomes import NOT_YET

        return not self.fits and any(reason != NOT_YET for reason in self.left_out)


def _calibrate(
    backtest: Path | None, source: str | None, url: str | None, *, dry_run: bool
) -> Found:
    from tradingbot.persistence.engine import get_db_session
    from tradingbot.persistence.url import database_exists, database_url, redact
    from tradingbot.postprocessing.fit import fit
    from tradingbot.postprocessing.repository import load, store

    source = given_source(source, Settings.from_env())
    url = url or database_url()
    found = Found()
    if backtest is not None:
        from tradingbot.walk_forward.results import read_csv

        found.fits = fit(read_csv(backtest, trained_on=("no", "unknown")))
    elif not dry_run or database_exists(url):
        with get_db_session(url, create=not dry_run) as session:
            found.fits = fit(_known(_record(session, url, source), found.left_out))
            lacking = [one.calibration.key for one in found.fits if not one.calibration.pools]
            found.earlier = {key for key in lacking if load(session, key)}
    if not dry_run:
        with get_db_session(url) as session:
            found.rows = sum(store(session, one.calibration) for one in found.fits)
        found.stored_in = redact(url)
    return found


def _record(
    session: "Session", url: str, source: str | None
) -> "Iterator[ForecastOutcomes | Unresolved]":
    from sqlalchemy import func, select

    from tradingbot.data.service import DataService
    from tradingbot.evaluation.outcomes import closes_of, resolve_outcomes
    from tradingbot.persistence.engine import get_db_session
    from tradingbot.persistence.models import KronosForecast
    from tradingbot.persistence.runs import last_source
    from tradingbot.postprocessing.fit import RECORD
    from tradingbot.runtime.clock import utcnow

    newest = session.scalar(select(func.max(KronosForecast.as_of)))
    if newest is None:
        return iter(())
    source = source or last_source(session) or Settings().data_source
    data = DataService(source, now=utcnow(), sessions=partial(get_db_session, url))
    return resolve_outcomes(session, closes_of(data), since=newest - RECORD)


def _known(
    record: "Iterable[ForecastOutcomes | Unresolved]", left_out: Counter[str]
) -> "Iterator[ForecastOutcomes]":
    from tradingbot.evaluation.outcomes import ForecastOutcomes

    for one in record:
        if isinstance(one, ForecastOutcomes):
            yield one
        else:
            left_out[one.reason] += one.n


def _document(found: Found) -> dict[str, Any]:
    """The factors themselves lie in kronos_calibrations; `raw` and `calibrated` are coverages."""
    return {
        "models": [
            {
                **dict(zip(("model", "revision", "interval"), one.calibration.key, strict=True)),
                "bands": [
                    {
                        "asset_class": outcome.asset_class,
                        "step": outcome.step,
                        "n": outcome.n,
                        "raw": outcome.raw_coverage,
                        "factor": outcome.factor,
                        "learnt_from": _pool(outcome),
                        "n_since": outcome.n_since,
                        "calibrated": outcome.coverage,
                    }
                    for outcome in one.outcomes
                ],
            }
            for one in found.fits
        ],
        "left_out": dict(found.left_out),
        "rows": found.rows,
        "database": found.stored_in,
    }


def _show(found: Found, console: Console) -> None:
    def say(line: str) -> None:
        console.print(line, markup=False, highlight=False, soft_wrap=True)

    for one in found.fits:
        name, revision, interval = one.calibration.key
        say(f"{name}, revision {revision[:20] or 'unknown'}, {interval}: the 80 % band")
        console.print(_table(one))
        say("")
    for reason, n in found.left_out.most_common():
        say(f"Left out {n}: {reason}")
    for line in _verdict(found):
        say(line)


def _table(one: "Fit") -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("Class")
    for heading in ("Step", "n", "Raw held", "Factor"):
        table.add_column(heading, justify="right")
    table.add_column("Learnt from")
    for heading in ("n since", "Held since"):
        table.add_column(heading, justify="right")
    for outcome in one.outcomes:
        table.add_row(
            outcome.asset_class,
            str(outcome.step),
            str(outcome.n),
            f"{outcome.raw_coverage:.1%}",
            "raw" if outcome.factor is None else f"{outcome.factor:.2f}",
            _pool(outcome) or "",
            str(outcome.n_since or ""),
            "" if outcome.coverage is None else f"{outcome.coverage:.1%}",
        )
    return table


def _pool(outcome: "Outcome") -> str | None:
    """In words: "equity, step 1"."""
    from tradingbot.persistence.models import ALL_STEPS
    from tradingbot.postprocessing.bands import ALL_CLASSES

    if outcome.pool is None:
        return None
    kind, step = outcome.pool
    of_class = "all classes" if kind == ALL_CLASSES else kind
    return f"{of_class}, {'all steps' if step == ALL_STEPS else f'step {step}'}"


def _verdict(found: Found) -> list[str]:
    from tradingbot.postprocessing.conformal import MIN_FORECASTS, MIN_SESSIONS

    needs = f"{MIN_FORECASTS} forecasts on {MIN_SESSIONS} sessions"
    lines = []
    if found.out_of_reach:
        lines.append("Learnt nothing: no forecast could be compared with what came")
    elif not found.fits:
        lines.append(
            f"Too little: no forecast has an outcome yet; bands stay raw until {needs} have one"
        )
    for one in found.fits:
        if not one.calibration.pools:
            n = sum(outcome.n for outcome in one.outcomes)
            earlier = one.calibration.key in found.earlier
            until = "the factors of before stay" if earlier else "its bands stay raw"
            lines.append(
                f"Too little: {one.calibration.key[0]} has {n} forecasts with an outcome; "
                f"{until} until {needs} have one"
            )
    if found.stored_in is None:
        return [*lines, "Stored nothing: a dry run"]
    if found.rows:
        lines.append(f"Stored {found.rows} factors: kronos_calibrations in {found.stored_in}")
    return lines
