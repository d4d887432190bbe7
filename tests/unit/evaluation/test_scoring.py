"""The scores in kronos_scores, on SQLite and on a real Postgres."""

from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from io import StringIO
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from sqlalchemy import delete, event, insert, select, update

from tests.support.records import LAST, Past
from tradingbot.cli.score_output import score_document, show_scores
from tradingbot.errors import DataError, DataUnavailable
from tradingbot.evaluation.close_outcomes import LEVELS, ForecastOutcomes, resolve_outcomes
from tradingbot.evaluation.metrics import compute_metrics
from tradingbot.evaluation.rescoring import StoredScores
from tradingbot.evaluation.scoring import Scoring, score, scored_since
from tradingbot.evaluation.track_record import crps_skill, track_record
from tradingbot.persistence.engine import get_db_session, get_engine
from tradingbot.persistence.ledger import newest_revision
from tradingbot.persistence.models import ALL_SYMBOLS, KronosForecast, KronosScore
from tradingbot.persistence.report_queries import model_scores
from tradingbot.persistence.scores import read_scores
from tradingbot.runtime.clock import utcnow

PAST = Past(["AAPL", "IBM"], sessions=70, horizon=2)


def closes_of(*pasts: Past, but: dict[str, pd.Series | DataError] | None = None) -> Any:
    """Return the candles of these pasts; `but` replaces tickers' candles, or raises an error."""
    known = {symbol: past.candles(symbol) for past in pasts for symbol in past.symbols}

    def closes(symbol: str, interval: str, since: datetime) -> pd.Series:
        found = (but or {}).get(symbol)
        if isinstance(found, DataError):
            raise found
        if found is not None:
            return found
        bars = known[symbol]
        return pd.Series(
            [bar["close"] for bar in bars], index=pd.DatetimeIndex([b["timestamp"] for b in bars])
        )

    return closes


def keep(url: str, past: Past) -> None:
    with get_db_session(url) as session:
        for symbol in past.symbols:
            made = [
                row | {"predicted_close": 1.001 * row["last_close"]}
                for row in past.forecasts(symbol)
            ]
            session.execute(insert(KronosForecast), made)


def scored(url: str, *pasts: Past, but: Any = None, **options: Any) -> Scoring:
    return score(partial(get_db_session, url), closes_of(*pasts, but=but), **options)


def rows(url: str, **wanted: Any) -> dict[tuple[Any, ...], KronosScore]:
    """Return scores by model, revision, ticker, step and window."""
    with get_db_session(url) as session:
        found = session.scalars(select(KronosScore).filter_by(**wanted)).all()
    return {
        (row.model_name, row.model_revision, row.symbol, row.step, row.last_sessions): row
        for row in found
    }


def test_there_is_a_score_for_each_ticker_step_and_window_and_for_all_together(
    database: str,
) -> None:
    keep(database, PAST)
    found = scored(database, PAST)
    # of 70 nights the last has no outcome, and the one before it has one for the first step only
    assert (found.scored, found.waiting) == (2 * (69 + 68), 0)
    assert found.tickers == {"AAPL", "IBM"}
    stored = rows(database)
    symbols, steps, windows = ("AAPL", "IBM", ALL_SYMBOLS), (0, 1, 2), (0, 250, 60)
    expected = {("mini", "r1", a, b, c) for a in symbols for b in steps for c in windows}
    assert stored.keys() == expected
    alone = stored["mini", "r1", "IBM", 1, 60]
    assert (alone.n, alone.sessions, alone.last_target) == (60, 60, LAST)
    every = stored["mini", "r1", ALL_SYMBOLS, 0, 0]
    assert (every.n, every.sessions) == (2 * (69 + 68), 69)
    assert every.mae is not None
    # this model knows the right width of the bands, and nothing more
    assert every.coverage_80 == pytest.approx(0.8, abs=0.06)
    assert every.crps_skill == pytest.approx(0.0, abs=0.05)
    assert every.hit_rate == pytest.approx(0.5, abs=0.1)


def test_all_tickers_together_have_the_measures_of_their_forecasts(database: str) -> None:
    keep(database, PAST)
    scored(database, PAST)
    every = resolve_outcomes(partial(get_db_session, database), closes_of(PAST))
    found = [item for item in every if isinstance(item, ForecastOutcomes)]
    expected = compute_metrics(found, step=2, last_sessions=60)
    row = rows(database)["mini", "r1", ALL_SYMBOLS, 2, 60]
    for name, value in expected.__dict__.items():
        alike: Any = pytest.approx(value) if isinstance(value, float) else value
        assert getattr(row, name) == alike, name


def test_without_a_matured_forecast_nothing_is_stored_and_a_line_says_so(database: str) -> None:
    assert scored(database, PAST) == Scoring()
    young = replace(PAST, sessions=1)
    keep(database, young)
    newest = utcnow().replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=9)
    with get_db_session(database) as session:
        session.execute(
            update(KronosForecast)
            .values(target_date=newest)
            .where(KronosForecast.horizon_days == 1)
        )
        session.execute(delete(KronosForecast).where(KronosForecast.horizon_days == 2))
    found = scored(database, young)
    assert (found.scored, found.waiting) == (0, 2)
    assert list(found.remarks()) == ["2 forecasts wait for their session to be complete"]
    assert rows(database) == {}


def test_a_new_revision_does_not_continue_the_record_of_the_old_one(database: str) -> None:
    keep(database, PAST)
    with get_db_session(database) as session:
        session.execute(
            update(KronosForecast)
            .values(model_revision="r2")
            .where(KronosForecast.as_of >= LAST - timedelta(days=21))
        )
    found = scored(database, PAST)
    assert "mini (1d) has 2 revisions, each with a separate record" in list(found.remarks())
    stored = rows(database, symbol=ALL_SYMBOLS, step=0, last_sessions=0)
    old, new = stored["mini", "r1", "*", 0, 0], stored["mini", "r2", "*", 0, 0]
    assert (old.n + new.n, new.n) == (274, 2 * (15 + 14))
    with get_db_session(database) as session:
        assert newest_revision(session, "mini", "1d") == "r2"
        message = track_record(session, "IBM", model="mini", revision="r2")
        assert message.startswith("all tickers, 15 sessions so far: error ")
        assert track_record(session, "IBM", model="mini", revision="r3") == (
            "no record yet: 0 of the 30 forecasts needed have an outcome"
        )


def test_from_its_first_night_a_revision_has_its_own_record(database: str) -> None:
    keep(database, PAST)
    with get_db_session(database) as session:
        newest = KronosForecast.as_of == LAST
        session.execute(update(KronosForecast).values(model_revision="another").where(newest))
    scored(database, PAST)
    with get_db_session(database) as session:
        # the newest revision has no outcome yet
        assert newest_revision(session, "mini", "1d") == "another"
        message = track_record(session, None, model="mini", revision="another")
        assert message == "no record yet: 0 of the 30 forecasts needed have an outcome"
        assert newest_revision(session, "never", "1d") is None


def test_no_figure_is_cut_off_in_a_pipe_of_eighty_columns(sqlite_url: str) -> None:
    many = replace(PAST, symbols=["AAPL", "IBM", "MSFT", "GOOG", "QQQ"])
    keep(sqlite_url, many)
    found = scored(sqlite_url, many)
    with get_db_session(sqlite_url) as session:
        stored = session.execute(select(KronosScore.__table__)).all()
        output = StringIO()
        show_scores(found, stored, Console(file=output, width=80))
    assert "…" not in output.getvalue()
    [every] = [row for row in stored if (row.symbol, row.step, row.last_sessions) == ("*", 0, 0)]
    line = next(line for line in output.getvalue().splitlines() if line.startswith("all "))
    assert f"{every.coverage_90:.0%}" in line.split()
    assert line.rstrip().endswith(f"({100 * every.hit_low:.0f}–{100 * every.hit_high:.0f})")  # noqa: RUF001


def test_too_few_forecasts_are_counted_but_not_scored(database: str) -> None:
    few = replace(PAST, sessions=7)
    keep(database, few)
    scored(database, few)
    row = rows(database)["mini", "r1", ALL_SYMBOLS, 0, 0]
    assert (row.n, row.mae, row.coverage_80, row.crps_skill) == (22, None, None, None)
    with get_db_session(database) as session:
        assert track_record(session, "IBM", model="mini", revision="r1") == (
            "no record yet: 22 of the 30 forecasts needed have an outcome"
        )
        assert crps_skill(session, "IBM", model="mini", revision="r1") is None


def test_scoring_again_replaces_scores_and_deletes_obsolete_ones(database: str) -> None:
    keep(database, PAST)
    scored(database, PAST)
    before = rows(database)
    with get_db_session(database) as session:
        session.execute(delete(KronosForecast).where(KronosForecast.symbol == "AAPL"))
    scored(database, PAST)
    after = rows(database)
    assert {key[2] for key in after} == {"IBM", ALL_SYMBOLS}
    assert after["mini", "r1", ALL_SYMBOLS, 0, 0].n == 137
    assert after["mini", "r1", "IBM", 0, 0].scored_at > before["mini", "r1", "IBM", 0, 0].scored_at


def test_a_delisted_ticker_affects_only_itself_and_keeps_its_record(database: str) -> None:
    keep(database, PAST)
    scored(database, PAST)
    gone = {"AAPL": DataUnavailable("the source is out of reach", symbol="AAPL")}
    found = scored(database, PAST, but=gone)
    assert list(found.remarks()) == [
        "140 forecasts not scored (AAPL): its candles are not available: the source is "
        "out of reach",
        "3 forecasts not scored (IBM): its candles end on 2024-05-15, before the target",
    ]
    stored = rows(database)
    assert stored["mini", "r1", "AAPL", 0, 0].n == 137
    assert stored["mini", "r1", ALL_SYMBOLS, 0, 0].n == 137  # only IBM remains


def test_a_missing_bar_and_a_split_do_not_disturb_scoring(database: str) -> None:
    keep(database, PAST)
    scored(database, PAST)
    before = rows(database)["mini", "r1", "AAPL", 0, 0]
    plain = closes_of(PAST)("AAPL", "1d", LAST)
    scored(database, PAST, but={"AAPL": plain / 7})  # split 7:1: the source restates all candles
    after = rows(database)["mini", "r1", "AAPL", 0, 0]
    assert (after.n, after.mae) == (before.n, pytest.approx(before.mae))
    assert after.crps_skill == pytest.approx(before.crps_skill)
    halted = scored(database, PAST, but={"AAPL": plain.drop(plain.index[-30])})
    assert "2 forecasts not scored (AAPL): the target session has no bar" in halted.remarks()
    # 2 forecasts from it, and 2 for it
    assert rows(database)["mini", "r1", "AAPL", 0, 0].n == before.n - 4


def test_scoring_can_be_limited_to_some_tickers_and_a_model(database: str) -> None:
    keep(database, PAST)
    keep(database, replace(PAST, model="small"))
    scored(database, PAST, symbols=["IBM"], model="mini")
    assert {key[:3] for key in rows(database)} == {("mini", "r1", "IBM")}
    scored(database, PAST)
    before = rows(database)
    scored(database, PAST, symbols=["IBM"])
    after = rows(database)
    assert after.keys() == before.keys()
    same = ("mini", "r1", ALL_SYMBOLS, 0, 0)
    assert after[same].scored_at == before[same].scored_at


def test_a_stopped_scoring_loses_nothing(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tradingbot.evaluation.scoring._BATCH", 1)
    keep(database, PAST)
    candles = closes_of(PAST)

    def closes(symbol: str, interval: str, since: datetime) -> pd.Series:
        if symbol == "IBM":
            raise KeyboardInterrupt
        found: pd.Series = candles(symbol, interval, since)
        return found

    with pytest.raises(KeyboardInterrupt):
        score(partial(get_db_session, database), closes)
    assert {key[2] for key in rows(database)} == {"AAPL"}


def test_scoring_by_another_run_is_detected(database: str) -> None:
    keep(database, PAST)
    begun = utcnow()
    with get_db_session(database) as session:
        assert not scored_since(session, begun)
    scored(database, PAST)
    with get_db_session(database) as session:
        assert scored_since(session, begun)
        assert not scored_since(session, utcnow())


def test_the_summary_uses_the_newest_window_with_enough_forecasts(database: str) -> None:
    keep(database, PAST)
    scored(database, PAST)
    row = rows(database)["mini", "r1", "IBM", 0, 60]
    with get_db_session(database) as session:
        message = track_record(session, "IBM", model="mini", revision="r1")
        assert message == (
            f"IBM, last 60 sessions: error {row.relative_mae:.2f} × tomorrow-equals-today, "  # noqa: RUF001
            f"80 % band held {100 * row.coverage_80:.0f} %, direction right "
            f"{100 * row.hit_rate:.0f} % ({100 * row.hit_low:.0f}–{100 * row.hit_high:.0f})"  # noqa: RUF001
        )
        other = track_record(session, "QQQ", model="mini", revision="r1")
        assert other.startswith("all tickers, last 60 sessions: error ")
        skill = crps_skill(session, "IBM", model="mini", revision="r1")
        assert skill is not None
        assert (skill.value, skill.where) == (row.crps_skill, "IBM, last 60 sessions")


def test_the_ledger_is_read_one_ticker_at_a_time(sqlite_url: str) -> None:
    many = Past([f"T{i}" for i in range(6)], sessions=3, horizon=2)
    keep(sqlite_url, many)
    seen: list[str] = []

    def closes(symbol: str, interval: str, since: datetime) -> pd.Series:
        seen.append(f"candles of {symbol}")
        return closes_of(many)(symbol, interval, since)

    def listen(connection: Any, cursor: Any, statement: str, *args: Any) -> None:
        if "close_quantiles" in statement:
            seen.append("forecasts")

    engine = get_engine(sqlite_url)
    event.listen(engine, "before_cursor_execute", listen)
    score(partial(get_db_session, sqlite_url), closes)
    event.remove(engine, "before_cursor_execute", listen)
    assert seen == [what for i in range(6) for what in (f"candles of T{i}", "forecasts")]


def test_served_and_raw_bands_are_both_scored(database: str) -> None:
    narrow = replace(PAST, width=0.3, calibrated=1.0)
    keep(database, narrow)
    scored(database, narrow)
    row = rows(database)["mini", "r1", ALL_SYMBOLS, 0, 0]
    assert row.coverage_80 == pytest.approx(0.8, abs=0.06)
    assert row.raw_coverage_80 == pytest.approx(0.3, abs=0.06)  # 0.3 of 1.28 standard deviations
    assert row.crps is not None
    assert row.raw_crps is not None
    assert row.crps < row.raw_crps
    assert len(LEVELS) == 19
    assert np.isfinite(row.wql or np.nan)


# raw, calibrated and combined ---------------------------------------------------------------


def of_parts(url: str, past: Past) -> dict[tuple[str, int, int, str], KronosScore]:
    """Return scores by ticker, step, window and forecast; the newest half was combined."""
    wide = replace(past, width=1.0, calibrated=None)
    half = past.days()[-past.sessions // 2]
    with get_db_session(url) as session:
        for symbol in past.symbols:
            rights = wide.forecasts(symbol)
            for row, right in zip(past.forecasts(symbol), rights, strict=True):
                if row["as_of"] >= half:
                    row |= {
                        "combined_quantiles": right["close_quantiles"],
                        "shares": {"kronos": 0.25, "random walk": 0.75},
                    }
                session.execute(insert(KronosForecast).values(**row))
    scored(url, past)
    with get_db_session(url) as session:
        found = session.scalars(select(KronosScore)).all()
    return {(row.symbol, row.step, row.last_sessions, row.forecast): row for row in found}


def test_raw_calibrated_and_combined_quantiles_have_separate_scores(database: str) -> None:
    stored = of_parts(database, replace(PAST, width=0.3, calibrated=0.6))
    whole = {name: stored["*", 0, 0, name] for name in ("served", "raw", "calibrated", "combined")}
    n = {name: row.n for name, row in whole.items()}
    assert n["served"] == n["raw"] == n["calibrated"] == 2 * (69 + 68)
    assert n["combined"] == 2 * (34 + 33)  # the other half was not combined
    assert whole["raw"].crps == pytest.approx(whole["served"].raw_crps)
    assert whole["raw"].coverage_80 == pytest.approx(whole["served"].raw_coverage_80)
    skills = [whole[name].crps_skill or np.nan for name in ("raw", "calibrated", "combined")]
    assert skills == sorted(skills)
    # half of the forecasts are combined
    assert skills[1] < (whole["served"].crps_skill or np.nan) < skills[2]
    assert whole["combined"].coverage_80 == pytest.approx(0.8, abs=0.08)
    assert all(row.ewma_skill is not None for row in whole.values())
    # all tickers also by step and window, a single ticker only over all its forecasts
    assert stored["*", 2, 60, "raw"].n == 2 * 60
    of_ibm = {key[1:] for key in stored if key[0] == "IBM" and key[3] != "served"}
    assert of_ibm == {(0, 0, name) for name in ("raw", "calibrated", "combined")}


def test_the_record_is_that_of_the_served_forecasts(sqlite_url: str) -> None:
    stored = of_parts(sqlite_url, replace(PAST, width=0.3, calibrated=0.6))
    with get_db_session(sqlite_url) as session:
        skill = crps_skill(session, "IBM", model="mini", revision="r1")
        assert skill is not None
        assert skill.value == stored["IBM", 0, 60, "served"].crps_skill
        assert skill.at_least == stored["IBM", 0, 0, "served"].skill_low
        [row] = model_scores(session, interval="1d")
        assert (row.symbol, row.forecast) == ("*", "served")


def test_scores_of_the_parts_are_shown_in_a_table_and_a_document(sqlite_url: str) -> None:
    stored = of_parts(sqlite_url, replace(PAST, width=0.3, calibrated=0.6))
    with get_db_session(sqlite_url) as session:
        rows = read_scores(session)
        output = StringIO()
        show_scores(Scoring(), rows, Console(file=output, width=80))
    lines = [line.split() for line in output.getvalue().splitlines()]
    head = next(number for number, line in enumerate(lines) if line[:2] == ["Forecast", "n"])
    by_part = {line[0]: line for line in lines[head + 1 : head + 5]}
    assert list(by_part) == ["served", "raw", "calibrated", "combined"]
    for name, line in by_part.items():
        row = stored["*", 0, 0, name]
        assert line[1:3] == [str(row.n), f"{row.crps_skill:+.3f}"]
        assert f"{row.ewma_skill:+.3f}" in line
    document = score_document(StoredScores(Scoring(), rows, "sqlite:///k.db"))
    assert {row["forecast"] for row in document["scores"]} == {"served"}
    assert {row["forecast"] for row in document["parts"]} == {"raw", "calibrated", "combined"}


def test_without_combination_the_record_has_no_parts(sqlite_url: str) -> None:
    keep(sqlite_url, PAST)
    scored(sqlite_url, PAST)
    with get_db_session(sqlite_url) as session:
        assert set(session.scalars(select(KronosScore.forecast))) == {"served"}
