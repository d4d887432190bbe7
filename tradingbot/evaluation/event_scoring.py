"""Score stored event probabilities against outcomes, into `kronos_event_scores`.

The Brier score is the mean of (probability - outcome)². Its skill compares the score with that of
a forecast that always gives the event's frequency. Ten bins of the probability compare forecast
probability and frequency. Reliability and resolution are terms of Murphy's decomposition.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tradingbot.evaluation.close_outcomes import Unresolved, UnresolvedReason
from tradingbot.evaluation.event_outcomes import BarsOf, EventOutcomes, resolve_events
from tradingbot.evaluation.metrics import MIN_FORECASTS
from tradingbot.evaluation.significance import interval, resampled, share_interval, wilson_interval
from tradingbot.persistence.events import delete_event_scores_before, store_event_scores
from tradingbot.persistence.models import ALL_EVENTS, ALL_STEPS, ALL_SYMBOLS
from tradingbot.runtime.clock import utcnow
from tradingbot.typing import Floats, SessionFactory, Times

BINS = 10
_NO_MEASURES: dict[str, Any] = dict.fromkeys(
    (
        *("mean_probability", "frequency", "brier", "base_brier", "brier_skill"),
        *("skill_low", "skill_high", "reliability", "resolution"),
    )
)

Record = tuple[str, str, str]  # model, its revision, interval


@dataclass
class EventScoring:
    """What was scored, and what was not."""

    scored: int = 0  # probabilities with an outcome
    waiting: int = 0  # probabilities whose session is in the future
    unscored: list[Unresolved] = field(default_factory=list)  # without the waiting ones


@dataclass(frozen=True)
class _Cases:
    """Probabilities with their outcomes, for any tickers and steps."""

    target: Times
    step: NDArray[np.int64]
    probability: Floats
    happened: Floats  # 0 or 1

    @classmethod
    def of(cls, outcomes: Collection[EventOutcomes]) -> "_Cases":
        return cls(
            np.concatenate([group.target for group in outcomes]),
            np.concatenate([group.step for group in outcomes]),
            np.concatenate([group.probability for group in outcomes]),
            np.concatenate([group.happened for group in outcomes]).astype("float64"),
        )

    def __getitem__(self, rows: NDArray[np.bool_]) -> "_Cases":
        return _Cases(*(getattr(self, name)[rows] for name in vars(self)))


def score_events(
    sessions: SessionFactory,
    bars: BarsOf,
    *,
    model: str | None = None,
    symbols: Collection[str] | None = None,
) -> EventScoring:
    """Score and store all models, events and tickers, or one model or some tickers.

    As in `scoring.score`, scores over all tickers are not changed if only some tickers are scored.
    Scores of deleted forecasts are deleted. Scores of a ticker without candles are kept.
    """
    scored_at = utcnow()
    found = EventScoring()
    without_candles: set[str] = set()
    totals: dict[Record, list[EventOutcomes]] = {}
    rows: list[dict[str, Any]] = []
    resolved = resolve_events(sessions, bars, model=model, symbols=symbols)
    for symbol, of_ticker in groupby(resolved, lambda result: result.symbol):
        known: dict[Record, list[EventOutcomes]] = {}
        for result in of_ticker:
            if isinstance(result, EventOutcomes):
                found.scored += len(result)
                record = result.model_name, result.model_revision, result.interval
                known.setdefault(record, []).append(result)
                totals.setdefault(record, []).append(result)
            elif result.reason == UnresolvedReason.NOT_YET:
                found.waiting += result.n
            else:
                found.unscored.append(result)
                if result.reason == UnresolvedReason.NO_CANDLES:
                    without_candles.add(symbol)
        for record, outcomes in known.items():
            rows += _of_ticker(record, symbol, outcomes)
    if symbols is None:
        for record, outcomes in totals.items():
            rows += _of_all(record, outcomes)
    with sessions() as session:
        store_event_scores(session, [row | {"scored_at": scored_at} for row in rows])
        delete_event_scores_before(
            session, scored_at, model=model, symbols=symbols, keep=without_candles
        )
    return found


def _of_ticker(
    record: Record, symbol: str, outcomes: list[EventOutcomes]
) -> Iterator[dict[str, Any]]:
    """Yield one row per event. Each row covers all steps."""
    for of_event in outcomes:
        yield _row(record, symbol, of_event.event, ALL_STEPS, _Cases.of([of_event]))


def _of_all(record: Record, outcomes: list[EventOutcomes]) -> Iterator[dict[str, Any]]:
    """Yield rows over all tickers: per event and for all events, for all steps and per step."""
    by_event: dict[str, list[EventOutcomes]] = {}
    for of_event in outcomes:
        by_event.setdefault(of_event.event, []).append(of_event)
    for event, group in [*by_event.items(), (ALL_EVENTS, outcomes)]:
        cases = _Cases.of(group)
        yield _row(record, ALL_SYMBOLS, event, ALL_STEPS, cases, whole=True)
        for step in np.unique(cases.step).tolist():
            yield _row(record, ALL_SYMBOLS, event, step, cases[cases.step == step])


def _row(
    record: Record, symbol: str, event: str, step: int, cases: _Cases, *, whole: bool = False
) -> dict[str, Any]:
    """Return a row of kronos_event_scores. Only rows with `whole` have intervals and bins."""
    row = {
        **dict(zip(("model_name", "model_revision", "interval"), record, strict=True)),
        "symbol": symbol,
        "event": event,
        "step": step,
        "n": len(cases.target),
        "sessions": len(np.unique(cases.target)),
        "first_target": cases.target.min().item(),
        "last_target": cases.target.max().item(),
        **_NO_MEASURES,
        "bins": [],
    }
    if len(cases.target) >= MIN_FORECASTS:
        row |= _measures(cases)
        if whole:
            row |= _skill_interval(cases) | {"bins": list(_bins(cases))}
    return row


def _measures(cases: _Cases) -> dict[str, Any]:
    probability, happened = cases.probability, cases.happened
    frequency = float(happened.mean())
    brier = float(((probability - happened) ** 2).mean())
    base = frequency * (1 - frequency)
    number = _bin_of(probability)
    counts = np.bincount(number, minlength=BINS)
    used = counts > 0
    in_bin, often = (
        np.bincount(number, values, BINS)[used] / counts[used] for values in (probability, happened)
    )
    return {
        "mean_probability": float(probability.mean()),
        "frequency": frequency,
        "brier": brier,
        "base_brier": base,
        "brier_skill": 1 - brier / base if base > 0 else None,
        "reliability": float(counts[used] @ (in_bin - often) ** 2 / len(probability)),
        "resolution": float(counts[used] @ (often - frequency) ** 2 / len(probability)),
    }


def _skill_interval(cases: _Cases) -> dict[str, Any]:
    """Return the 95 % interval of the skill. Resample sessions within one horizon together."""
    losses = (cases.probability - cases.happened) ** 2
    values = np.stack([losses, cases.happened, np.ones_like(losses)], axis=1)
    _, drawn = resampled(cases.target, values, block=int(cases.step.max()))
    losses, happened, count = drawn.T
    base = happened / count * (1 - happened / count)
    varied = base > 0
    found = interval(1 - (losses / count)[varied] / base[varied])
    low, high = (None, None) if found is None else map(float, found)
    return {"skill_low": low, "skill_high": high}


def _bins(cases: _Cases) -> Iterator[dict[str, Any]]:
    """Yield probability and frequency of each non-empty bin, with the 95 % interval."""
    number = _bin_of(cases.probability)
    sessions, at = np.unique(cases.target, return_inverse=True)
    overlap = int(cases.step.max())
    for index in np.unique(number).tolist():
        inside = number == index
        share = float(cases.happened[inside].mean())
        hits, counts = (
            np.bincount(at[inside], values[inside], len(sessions)).astype("float64")
            for values in (cases.happened, np.ones_like(cases.happened))
        )
        few = len(sessions) < 2
        low, high = wilson_interval(share, 1) if few else share_interval(hits, counts, overlap)
        yield {
            "from": index / BINS,
            "to": (index + 1) / BINS,
            "n": int(inside.sum()),
            "probability": float(cases.probability[inside].mean()),
            "frequency": share,
            "low": low,
            "high": high,
        }


def _bin_of(probability: Floats) -> NDArray[np.int64]:
    """Return the bin of each probability, 0 to 9. The probability 1.0 belongs to bin 9."""
    number = (probability * BINS + 1e-9).astype("int64")
    return np.asarray(np.minimum(number, BINS - 1))
