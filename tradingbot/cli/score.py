"""`kronosbot score`: score the stored forecasts."""

from functools import partial
from typing import Annotated

import typer

from tradingbot.cli.options import (
    LAST_SOURCE,
    DatabaseOption,
    JsonOption,
    Tickers,
    source_option,
    symbols_option,
)
from tradingbot.cli.output import fail, finish
from tradingbot.errors import KronosError
from tradingbot.runtime.progress import ProgressReporter
from tradingbot.runtime.signals import Stopped, stop_on_signals
from tradingbot.settings import Settings


def score(
    source: Annotated[
        str | None,
        source_option(f"Source of candles: yahoo, csv:DIR or sample. {LAST_SOURCE}"),
    ] = None,
    symbols: Annotated[
        Tickers | None,
        symbols_option(
            "These tickers only; the scores of all together do not change. Default: all."
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option(metavar="NAME", help="This model only. Default: all.")
    ] = None,
    database_url: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare every stored forecast whose session is complete with the realised closes.

    Stores the scores of each model, ticker and step ahead in kronos_scores, and shows them; those
    of events (KRONOS_EVENTS) in kronos_event_scores. Every nightly run does the same. Fewer than 30
    forecasts with an outcome are counted, but not scored.

    Exit codes: 0 done, also while all forecasts wait for their sessions; 1 there are no forecasts,
    none could be compared, or the database is out of reach; 2 a wrong setting; 130 Ctrl-C, which
    loses nothing; 143 SIGTERM.

    \b
    Try it:
      kronosbot score
      kronosbot score --symbols SPY --json | jq '.scores[] | select(.step == 0)'
    """
    from tradingbot.cli.score_output import score_document, show_stored
    from tradingbot.evaluation.rescoring import rescore
    from tradingbot.persistence.url import database_url as configured_url

    reporter = ProgressReporter()
    try:
        with reporter, stop_on_signals():
            scores = rescore(
                database_url or configured_url(),
                Settings.from_env(),
                source=source,
                symbols=symbols,
                model=model,
                reporter=reporter,
            )
            reporter.end()
    except (KronosError, Stopped) as error:
        fail(error, as_json=as_json)
    code = 1 if scores.found.unscored and not scores.found.scored else 0
    finish(
        code,
        as_json=as_json,
        document=lambda: {"exit_code": code, **score_document(scores)},
        show=partial(show_stored, scores),
    )
