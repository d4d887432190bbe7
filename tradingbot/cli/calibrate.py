"""`kronosbot calibrate`: fit and store the band calibration and the combination weights."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from tradingbot.cli.options import LAST_SOURCE, DatabaseOption, JsonOption, source_option
from tradingbot.cli.output import fail, finish
from tradingbot.errors import KronosError
from tradingbot.runtime.signals import Stopped, stop_on_signals
from tradingbot.settings import Settings


def calibrate(
    backtest: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.csv",
            help="Learn from this file, written by `kronosbot backtest`, instead of from "
            "the stored forecasts. Days that the model was trained on are left out.",
        ),
    ] = None,
    source: Annotated[
        str | None,
        source_option(f"Source of the closes with which forecasts are compared. {LAST_SOURCE}"),
    ] = None,
    database_url: DatabaseOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Learn and print, but store nothing.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Learn the width of the bands, and the weight of Kronos among simple forecasts.

    Learns from scratch, from all forecasts with a known outcome. The nightly job does this
    automatically after 100 forecasts on 30 sessions have an outcome. With --backtest, bands can be
    calibrated and forecasts combined before that. Stored forecasts do not change; the
    next ones use the new factors and weights.

    Exit codes: 0 done, also if there are too few outcomes and bands stay raw; 1 there are
    forecasts and none could be compared, or the database is out of reach; 2 a wrong setting or
    file; 130 Ctrl-C.

    \b
    Try it:
      kronosbot calibrate --dry-run
      kronosbot backtest --local --source csv:DIR --windows 100 --out r.csv
      kronosbot calibrate --backtest r.csv
    """
    from tradingbot.cli.calibrate_output import calibration_document, show_calibration
    from tradingbot.persistence.url import database_url as configured_url
    from tradingbot.postprocessing.recalibration import recalibrate
    from tradingbot.walk_forward.evaluation import unseen_record

    try:
        with stop_on_signals():
            settings = Settings.from_env()
            url = database_url or configured_url()
            record = None if backtest is None else unseen_record(backtest)
            found = recalibrate(url, settings, source=source, record=record, dry_run=dry_run)
    except (KronosError, Stopped) as error:
        fail(error, as_json=as_json, left="nothing was stored")
    code = 1 if found.out_of_reach else 0
    finish(
        code,
        as_json=as_json,
        document=lambda: {**calibration_document(found), "exit_code": code, "error": None},
        show=partial(show_calibration, found),
    )
