"""Event probabilities compared with outcomes, on SQLite and on a real Postgres."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import cache, partial
from io import StringIO
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from sqlalchemy import insert

from tests.support.records import LAST, NOW, Past
from tradingbot.cli.score_output import score_document, show_stored
from tradingbot.data.service import DataService
from tradingbot.errors import DataError
from tradingbot.evaluation.close_outcomes import Unresolved, UnresolvedReason
from tradingbot.evaluation.event_outcomes import EventOutcomes, bars_of, resolve_events
from tradingbot.evaluation.event_scoring import EventScoring, score_events
from tradingbot.evaluation.rescoring import StoredScores
from tradingbot.evaluation.scoring import Scoring
from tradingbot.markets.candles import PRICES
from tradingbot.persistence.engine import get_db_session
from tradingbot.persistence.events import read_event_scores
from tradingbot.persistence.models import ALL_EVENTS, ALL_SYMBOLS, KronosEvent
from tradingbot.typing import Floats

PAST = Past(["AAPL", "IBM"], sessions=40, horizon=3)


@pytest.fixture(autouse=True)
def on_the_last_evening(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tradingbot.evaluation.close_outcomes.utcnow", lambda: NOW)


@cache
def candles(symbol: str) -> pd.DataFrame:
    return pd.DataFrame(PAST.candles(symbol)).set_index("timestamp")[PRICES]


def known(symbol: str, interval: str, since: datetime) -> pd.DataFrame:
    return candles(symbol).loc[since:]


def keep(url: str, *rows: dict[str, Any]) -> None:
    with get_db_session(url) as session:
        session.execute(insert(KronosEvent), rows)


def chance(symbol: str, event: str, as_of: Any, target: Any, step: int, **columns: Any) -> Any:
    made: dict[str, Any] = dict(
        symbol=symbol, interval="1d", model_name="mini", as_of=as_of, target_date=target,
        bars_hash="", event=event, model_revision="r1", prediction_made_at=as_of,
        horizon_days=step, last_close=float(candles(symbol)["close"].get(as_of, 100.0)),
        probability=0.4, low=0.3, high=0.5, mean=None,
    )  # fmt: skip
    return made | columns


def of_every_night(
    symbol: str, event: str, probability: Sequence[float] | Floats, **columns: Any
) -> list[dict[str, Any]]:
    """Return probabilities for every night of PAST; the newest nights have no outcome yet."""
    bars = candles(symbol)
    days = [*bars.index, *pd.bdate_range(LAST + timedelta(days=1), periods=PAST.horizon)]
    nights = range(len(bars) - PAST.sessions, len(bars))
    chances = iter(np.resize(probability, PAST.sessions * PAST.horizon).tolist())
    return [
        chance(symbol, event, days[night], days[night + step], step, probability=next(chances))
        | columns
        for night in nights
        for step in range(1, PAST.horizon + 1)
    ]


def score(url: str, bars: Any = known, **options: Any) -> EventScoring:
    return score_events(partial(get_db_session, url), bars, **options)


def rows(url: str) -> dict[tuple[str, str, int], Any]:
    with get_db_session(url) as session:
        return {(row.symbol, row.event, row.step): row for row in read_event_scores(session)}


def resolved(url: str, bars: Any = known) -> list[EventOutcomes | Unresolved]:
    return list(resolve_events(partial(get_db_session, url), bars))


@pytest.mark.parametrize(
    "event", ["touch +1%", "close above 0%", "return between -1% and +1%", "reach +1% before -1%",
              "drawdown above 1.5%", "range above 2%"],
)  # fmt: skip
def test_an_events_outcome_depends_on_the_bars_after_the_forecast(
    sqlite_url: str, event: str
) -> None:
    keep(sqlite_url, *of_every_night("AAPL", event, [0.5]))
    outcome, left = resolved(sqlite_url)
    assert isinstance(outcome, EventOutcomes)
    assert len(outcome) == 3 * PAST.sessions - 6
    assert 0 < outcome.happened.mean() < 1
    assert isinstance(left, Unresolved)
    assert (left.reason, left.n) == (UnresolvedReason.NOT_YET, 6)
    bars = candles("AAPL")
    for target, step, happened in zip(outcome.target, outcome.step, outcome.happened, strict=True):
        end = bars.index.get_loc(target)
        window, last = bars.iloc[end - step + 1 : end + 1], bars["close"].iloc[end - step]
        expected = {
            "touch +1%": window["high"].max() >= 1.01 * last,
            "close above 0%": window["close"].iloc[-1] > last,
            "return between -1% and +1%": abs(window["close"].iloc[-1] / last - 1) <= 0.01,
            "range above 2%": (window["high"].max() - window["low"].min()) / last > 0.02,
            "reach +1% before -1%": _first(window, last),
            "drawdown above 1.5%": _falls(window, last, 0.015),
        }
        assert happened == expected[event]


def _first(window: pd.DataFrame, last: float) -> bool:
    for _, bar in window.iterrows():
        if bar["low"] <= 0.99 * last:
            return bool(bar["open"] >= 1.01 * last)
        if bar["high"] >= 1.01 * last:
            return True
    return False


def _falls(window: pd.DataFrame, peak: float, depth: float) -> bool:
    for _, bar in window.iterrows():
        peak = max(peak, bar["open"])
        if bar["low"] < (1 - depth) * peak:
            return True
        peak = max(peak, bar["high"])
        if bar["close"] < (1 - depth) * peak:
            return True
    return False


def test_a_later_split_changes_no_outcome_even_of_a_price_level(sqlite_url: str) -> None:
    """The split divides all prices by ten after the forecasts were made."""
    events = ["touch +1%", "touch 101", "reach 103 before 95", "close above 0%", "range above 2%"]
    for event in events:
        keep(sqlite_url, *of_every_night("AAPL", event, [0.5]))
    before = [
        outcome.happened.tolist()
        for outcome in resolved(sqlite_url)
        if isinstance(outcome, EventOutcomes)
    ]
    split = lambda symbol, interval, since: known(symbol, interval, since) / 10  # noqa: E731
    after = [
        outcome.happened.tolist()
        for outcome in resolved(sqlite_url, split)
        if isinstance(outcome, EventOutcomes)
    ]
    assert len(before) == 5
    assert before == after


def test_forecasts_without_outcome_are_reported_and_not_scored(sqlite_url: str) -> None:
    bars = candles("AAPL")
    days = bars.index[-8:]
    without = bars.drop([days[1], days[6]])
    keep(
        sqlite_url,
        chance("AAPL", "touch +1%", days[0], days[2], 2),  # a bar before the target is missing
        # a close needs only the target's bar
        chance("AAPL", "close above 0%", days[0], days[2], 2),
        chance("AAPL", "touch +1%", days[1], days[2], 1),  # its first bar no longer exists
        chance("AAPL", "touch +1%", days[2], days[6], 4),
        chance("AAPL", "touch +1%", days[2], days[3], 1),
        chance("AAPL", "touch +1%", days[7], days[7] + timedelta(days=30), 1),
        chance("AAPL", "moon +1%", days[2], days[3], 1),  # written by a newer version
        chance("IBM", "touch +1%", days[2], days[3], 1),
    )

    def some(symbol: str, interval: str, since: datetime) -> pd.DataFrame:
        if symbol == "IBM":
            raise DataError("is out of reach")
        return without

    outcomes = resolved(sqlite_url, some)
    reasons = {outcome.text: outcome.n for outcome in outcomes if isinstance(outcome, Unresolved)}
    assert reasons == {
        "a session between its origin and the target has no bar": 1,
        "the bar that it was made from is not in the history": 1,
        "the target session has no bar": 1,
        "the target session is not complete yet": 1,
        "unknown event: moon +1%": 1,
        "its candles are not available: is out of reach": 1,
    }
    assert [
        (outcome.event, len(outcome)) for outcome in outcomes if isinstance(outcome, EventOutcomes)
    ] == [
        ("close above 0%", 1),
        ("touch +1%", 1),
    ]
    found = score(sqlite_url, some)
    assert (found.scored, found.waiting, len(found.unscored)) == (2, 1, 5)


def test_the_first_vintage_from_complete_bars_is_scored(sqlite_url: str) -> None:
    [day, target] = candles("AAPL").index[-2:]
    asked = partial(chance, "AAPL", "touch +1%", day, target, 1)
    keep(
        sqlite_url,
        asked(bars_hash="early", probability=0.1, prediction_made_at=day + timedelta(hours=15)),
        asked(bars_hash="whole", probability=0.2, prediction_made_at=day + timedelta(hours=23)),
        asked(bars_hash="later", probability=0.3, prediction_made_at=day + timedelta(hours=50)),
    )
    [outcome] = resolved(sqlite_url)
    assert isinstance(outcome, EventOutcomes)
    assert outcome.probability.tolist() == [0.2]


def test_scores_equal_the_textbook_formulas(database: str) -> None:
    """The Brier score is computed by hand, over all tickers and for each, by event and step."""
    probabilities = np.random.default_rng(1).integers(0, 11, 999) / 10
    for symbol in PAST.symbols:
        keep(database, *of_every_night(symbol, "touch +1%", probabilities))
        keep(database, *of_every_night(symbol, "close above 0%", [0.5]))
    found = score(database)
    per_event = 3 * PAST.sessions - 6
    assert (found.scored, found.waiting, found.unscored) == (4 * per_event, 24, [])
    scores = rows(database)
    assert scores.keys() == {
        *((ALL_SYMBOLS, event, step) for event in ("touch +1%", "close above 0%", ALL_EVENTS)
          for step in range(4)),
        *((symbol, "touch +1%", 0) for symbol in PAST.symbols),
        *((symbol, "close above 0%", 0) for symbol in PAST.symbols),
    }  # fmt: skip

    outcomes = [outcome for outcome in resolved(database) if isinstance(outcome, EventOutcomes)]
    p, o, step = (
        np.concatenate(
            [getattr(outcome, name) for outcome in outcomes if outcome.event == "touch +1%"]
        )
        for name in ("probability", "happened", "step")
    )
    whole = scores[ALL_SYMBOLS, "touch +1%", 0]
    assert (whole.n, whole.model_name, whole.model_revision) == (2 * per_event, "mini", "r1")
    assert whole.brier == pytest.approx(np.mean((p - o) ** 2))
    assert whole.frequency == pytest.approx(o.mean())
    assert whole.mean_probability == pytest.approx(p.mean())
    assert whole.base_brier == pytest.approx(np.mean((o - o.mean()) ** 2))
    assert whole.brier_skill == pytest.approx(1 - whole.brier / whole.base_brier)
    assert whole.skill_low < whole.brier_skill < whole.skill_high < 0  # the model has no skill
    second = scores[ALL_SYMBOLS, "touch +1%", 2]
    assert second.brier == pytest.approx(np.mean((p[step == 2] - o[step == 2]) ** 2))
    assert second.bins == []

    # forecasts are in tenths; 1.0 is in the last bin, together with 0.9
    assert [entry["from"] for entry in whole.bins] == pytest.approx([n / 10 for n in range(10)])
    assert sum(entry["n"] for entry in whole.bins) == whole.n
    for entry in whole.bins:
        inside = (p >= entry["from"] - 1e-9) & ((p < entry["to"] - 1e-9) | (entry["to"] == 1))
        assert entry["n"] == inside.sum()
        assert entry["frequency"] == pytest.approx(o[inside].mean())
        assert entry["probability"] == pytest.approx(p[inside].mean())
        assert 0 <= entry["low"] <= entry["frequency"] <= entry["high"] <= 1
    tenths = np.round(10 * p).astype(int).clip(max=9)
    parts = [
        (p[tenths == n].mean(), o[tenths == n].mean(), (tenths == n).mean()) for n in range(10)
    ]
    assert whole.reliability == pytest.approx(sum(w * (a - b) ** 2 for a, b, w in parts))
    assert whole.resolution == pytest.approx(sum(w * (b - o.mean()) ** 2 for _, b, w in parts))

    half = scores[ALL_SYMBOLS, "close above 0%", 0]
    assert half.brier == pytest.approx(0.25)
    assert half.resolution == pytest.approx(0)


def test_scores_of_events_are_shown_in_tables_and_a_document(sqlite_url: str) -> None:
    for event in ("touch +1%", "return between -1% and +1%"):
        keep(sqlite_url, *of_every_night("AAPL", event, [0.5, 0.22]))
    found = score(sqlite_url)
    with get_db_session(sqlite_url) as session:
        event_rows = read_event_scores(session)
    scores = StoredScores(Scoring(), [], "sqlite:///k.db", found, event_rows)
    output = StringIO()
    show_stored(scores, Console(file=output, width=80))
    lines = output.getvalue().splitlines()
    assert max(map(len, lines)) <= 90
    assert lines[0] == "mini (r1), 1d: 228 event probabilities with an outcome"
    cells = {line[:26].strip(): line.split() for line in lines}
    whole = rows(sqlite_url)[ALL_SYMBOLS, "touch +1%", 0]
    assert cells["touch +1%"][2:6] == [
        "114", f"{whole.mean_probability:.0%}", f"{whole.frequency:.0%}", f"{whole.brier:.3f}",
    ]  # fmt: skip
    assert {"return between -1% and +1%", "all"} <= cells.keys()
    [bin_line] = [line.split() for line in lines if line.strip().startswith("20 to 30 %")]
    all_events = rows(sqlite_url)[ALL_SYMBOLS, ALL_EVENTS, 0]
    assert bin_line[4:6] == [str(all_events.bins[0]["n"]), "22%"]
    assert lines[-1] == "12 event probabilities wait for their session"

    document = score_document(scores)
    assert (document["events_scored"], document["events_waiting"]) == (228, 12)
    assert document["events_unscored"] == []
    assert {row["event"] for row in document["events"]} == {
        "*", "touch +1%", "return between -1% and +1%",
    }  # fmt: skip


def test_without_events_the_output_does_not_mention_them(sqlite_url: str) -> None:
    output = StringIO()
    show_stored(StoredScores(Scoring(), [], "sqlite:///k.db"), Console(file=output, width=80))
    assert "event" not in output.getvalue().lower()


def test_few_event_forecasts_are_counted_but_not_scored(sqlite_url: str) -> None:
    keep(sqlite_url, *of_every_night("AAPL", "touch +1%", [0.5])[:29])
    score(sqlite_url)
    row = rows(sqlite_url)[ALL_SYMBOLS, "touch +1%", 0]
    assert (row.n, row.brier, row.brier_skill, row.bins) == (29, None, None, [])


def test_an_event_that_never_happens_has_no_skill_score(sqlite_url: str) -> None:
    keep(sqlite_url, *of_every_night("AAPL", "touch +90%", [0.0]))
    score(sqlite_url)
    row = rows(sqlite_url)[ALL_SYMBOLS, "touch +90%", 0]
    assert (row.brier, row.frequency, row.brier_skill, row.skill_low) == (0.0, 0.0, None, None)
    [entry] = row.bins
    assert (entry["n"], entry["low"]) == (row.n, 0.0)
    assert entry["high"] > 0.01


def test_scoring_some_tickers_keeps_other_scores_and_removes_stale_ones(database: str) -> None:
    for symbol in PAST.symbols:
        keep(database, *of_every_night(symbol, "touch +1%", [0.5]))
    score(database)
    before = rows(database)
    score(database, symbols=["AAPL"])
    after = rows(database)
    assert after.keys() == before.keys()
    assert after["AAPL", "touch +1%", 0].scored_at > before["AAPL", "touch +1%", 0].scored_at
    for kept in (("IBM", "touch +1%", 0), (ALL_SYMBOLS, "touch +1%", 0)):
        assert after[kept].scored_at == before[kept].scored_at

    with get_db_session(database) as session:
        session.query(KronosEvent).filter_by(symbol="IBM").delete()

    def unreachable(symbol: str, interval: str, since: datetime) -> pd.DataFrame:
        raise DataError("is out of reach")

    score(database)
    assert {symbol for symbol, *_ in rows(database)} == {"AAPL", ALL_SYMBOLS}
    score(database, unreachable)  # temporary, so the ticker's record is kept
    assert {symbol for symbol, *_ in rows(database)} == {"AAPL", ALL_SYMBOLS}


def test_outcomes_use_the_bars_of_the_data_service() -> None:
    data = DataService("sample").by_the_wall_clock()
    bars = bars_of(data)("AAPL", "1d", datetime(2013, 2, 21))
    assert [*bars.columns] == PRICES
    assert bars.index[0] == datetime(2013, 2, 21)
    assert bars["close"].equals(data.closes("AAPL", since=datetime(2013, 2, 21)))
