"""The state of the models: the age of their forecasts, and their scores."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from sqlalchemy.orm import Session

from tradingbot.evaluation.track_record import track_record
from tradingbot.persistence.forecast_queries import NewestForecast
from tradingbot.persistence.ledger import newest_revision
from tradingbot.persistence.report_queries import model_scores
from tradingbot.persistence.scores import has_scores_table
from tradingbot.postprocessing.repository import load_combination, served_shares


@dataclass(frozen=True)
class Model:
    """The state of one model."""

    name: str
    interval: str
    as_of: datetime | None  # of the newest forecast
    tickers: int
    fresh: int  # number of tickers whose forecast is as of the latest complete session
    record: str | None = None  # a sentence on its scores; None in an older schema
    shares: dict[str, float] | None = None  # served weights: forecaster -> share
    challenger: bool = False  # whether its forecasts are not given to bots
    trial: str | None = None  # state of a challenger's trial, in words
    # skill compared with a random walk, of raw, calibrated, combined and served quantiles, if known
    skills: dict[str, float] = field(default_factory=dict)


def read_models(session: Session, freshest: Iterable[NewestForecast]) -> list[Model]:
    """Return the state of each model and interval. Use the revision that forecast last."""
    scored = has_scores_table(session)
    served = {
        (known.model, known.interval) for known in _newest_of(freshest) if not known.challenger
    }
    models, trials = [], dict[tuple[str, str], str]()
    for name, interval in sorted({(known.model, known.interval) for known in freshest}):
        revision = newest_revision(session, name, interval)
        key = (name, revision or "", interval)
        challenger = (name, interval) not in served
        combination = load_combination(session, key)
        if combination is not None and not challenger:
            trials |= {
                (rival, interval): standing for rival, standing in combination.standings().items()
            }
        models.append(
            Model(
                name,
                interval,
                as_of=None,
                tickers=0,
                fresh=0,
                record=track_record(session, None, model=name, revision=revision, interval=interval)
                if scored
                else None,
                shares=served_shares(session, key),
                challenger=challenger,
                skills=_skills(session, key) if scored else {},
            )
        )
    return [replace(model, trial=trials.get((model.name, model.interval))) for model in models]


def _newest_of(freshest: Iterable[NewestForecast]) -> Iterable[NewestForecast]:
    """Return the newest forecast of each model, interval and ticker.

    A model may have forecast a ticker as champion and as challenger."""
    newest: dict[tuple[str, str, str], NewestForecast] = {}
    for known in freshest:
        place = known.model, known.interval, known.symbol
        before = newest.get(place, known)
        newest[place] = max(before, known, key=lambda forecast: forecast.as_of or datetime.min)
    return newest.values()


def _skills(session: Session, key: tuple[str, str, str]) -> dict[str, float]:
    """Return the skills of this revision over all tickers."""
    name, revision, interval = key
    return {
        score.forecast: score.crps_skill
        for score in model_scores(session, interval=interval, parts=True)
        if (score.model_name, score.model_revision) == (name, revision)
        and score.crps_skill is not None
    }


def models_of(
    models: Iterable[Model],
    freshest: Iterable[NewestForecast],
    latest: Mapping[str, datetime | str],
) -> list[Model]:
    """Return the models with their forecasts: champions first, then the newest."""
    of_model: dict[tuple[str, str], list[NewestForecast]] = {}
    for known in _newest_of(freshest):
        of_model.setdefault((known.model, known.interval), []).append(known)
    found = []
    for model in models:
        of_tickers = of_model[model.name, model.interval]
        found.append(
            replace(
                model,
                as_of=max(
                    (forecast.as_of for forecast in of_tickers if forecast.as_of), default=None
                ),
                tickers=len(of_tickers),
                fresh=sum(_is_fresh(forecast, latest[forecast.symbol]) for forecast in of_tickers),
            )
        )
    found.sort(key=lambda model: model.as_of or datetime.min, reverse=True)
    return sorted(found, key=lambda model: model.challenger)


def _is_fresh(known: NewestForecast, latest: datetime | str) -> bool:
    return known.as_of is not None and not isinstance(latest, str) and known.as_of >= latest
