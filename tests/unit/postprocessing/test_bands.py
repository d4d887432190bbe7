"""Calibration: fitted from a record, stored, applied to forecasts, and run by the job."""

import json
import pkgutil
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psycopg2
import pytest
from sqlalchemy import func, select, text
from sqlalchemy.exc import InvalidRequestError
from typer.testing import CliRunner

from tests.support.records import VOLATILITY, Past, Z
from tradingbot.ai.forecast_document import forecast_document
from tradingbot.ai.forecast_text import forecast_text
from tradingbot.cli.main import app
from tradingbot.client import KronosClient
from tradingbot.data.service import DataService
from tradingbot.errors import DatabaseError, DatabaseUnavailable, DataError
from tradingbot.evaluation.close_outcomes import ForecastOutcomes
from tradingbot.forecast import QUANTILE_LEVELS, Forecast, ForecastBar, recorded_revision
from tradingbot.jobs.database import JobDatabase
from tradingbot.jobs.nightly import JobOptions, NightlyJob
from tradingbot.jobs.summary import RunSummary
from tradingbot.markets.calendars import next_sessions
from tradingbot.markets.symbols import asset_class
from tradingbot.persistence.engine import get_db_session
from tradingbot.persistence.forecasts import already_stored, latest_stored, store_forecasts
from tradingbot.persistence.models import KronosForecast, KronosPrediction, KronosScore
from tradingbot.postprocessing.bands import ALL_CLASSES, Calibration, Factors, key_of
from tradingbot.postprocessing.conformal import BANDS
from tradingbot.postprocessing.fit import Fit, fit
from tradingbot.postprocessing.repository import load, load_combination, store
from tradingbot.runtime.progress import ProgressReporter
from tradingbot.settings import Settings, Timeouts, use_timeouts
from tradingbot.space.address import SpaceAddress
from tradingbot.space.client import SpaceClient

EIGHTY = BANDS.index(80)
MONDAY = datetime(2024, 1, 8)
TWICE = Factors((2.0,) * 9, n=480, until=datetime(2024, 1, 5))


def record(
    symbol: str = "AAPL",
    *,
    sessions: int = 60,
    steps: int = 2,
    width: float = 0.5,
    model: str = "mini",
    revision: str = "r1",
) -> ForecastOutcomes:
    """Return a random walk, and forecasts with bands `width` times as wide as they should be."""
    random = np.random.default_rng(sum(map(ord, symbol)))
    days = np.array(next_sessions("AAPL", datetime(2022, 1, 3), sessions + steps), "datetime64[s]")
    closes = np.exp(np.cumsum(VOLATILITY * random.standard_normal(len(days))))
    start, step = np.divmod(np.arange(sessions * steps), steps)
    end = start + step + 1
    quantiles = np.exp(width * VOLATILITY * np.sqrt(step + 1)[:, None] * Z)
    return ForecastOutcomes(
        symbol=symbol, model_name=model, model_revision=revision, interval="1d",
        as_of=days[start], target=days[end], step=step + 1, mean=np.ones(len(step)),
        quantiles=quantiles, raw_quantiles=quantiles, prob_up=np.full(len(step), 0.5),
        actual=closes[end] / closes[start], past=pd.Series(closes, pd.DatetimeIndex(days)),
    )  # fmt: skip


EQUITIES = ["AAPL", "IBM", "KO", "MSFT"]


def fitted(*parts: ForecastOutcomes) -> Fit:
    [fits] = fit(parts)
    return fits


def forecast(symbol: str = "AAPL", steps: int = 2, **changes: Any) -> Forecast:
    """Return a forecast from a close of 99: a normal distribution of 5 % around 100."""
    bars = [
        ForecastBar(
            step=step, target_date=day, open=100.0, high=101.0, low=99.0, close=100.0, volume=0.0,
            close_quantiles=dict(
                zip(QUANTILE_LEVELS, (100 * np.exp(0.05 * Z)).tolist(), strict=True)
            ),
            prob_up=0.65,
        )
        for step, day in enumerate(next_sessions(symbol, MONDAY, steps), start=1)
    ]  # fmt: skip
    made = Forecast(
        symbol=symbol, interval="1d", model_name="mini", model_revision="r1", as_of=MONDAY,
        made_at=datetime(2024, 1, 8, 22), last_close=99.0, samples=20, seed=None, bars=tuple(bars),
    )  # fmt: skip
    return replace(made, **changes)


@pytest.mark.parametrize(
    ("symbol", "kind"),
    [
        ("SPY", "equity"), ("7203.T", "equity"), ("BRK-B", "equity"), ("^GSPC", "index"),
        ("^N225", "index"), ("BTC-USD", "crypto"), ("EURUSD=X", "fx"), ("ES=F", "future"),
        ("CLF27.NYM", "future"), ("WHAT.EVER", "other"),
    ],
)  # fmt: skip
def test_the_asset_class_follows_from_the_ticker(symbol: str, kind: str) -> None:
    assert asset_class(symbol) == kind


# fitting ----------------------------------------------------------------------------------


def test_bands_of_half_the_right_width_get_a_factor_of_two() -> None:
    fits = fitted(*map(record, EQUITIES))
    assert fits.calibration.key == ("mini", "r1", "1d")
    factors = fits.calibration.pools["equity", 1]
    assert factors.values[EIGHTY] == pytest.approx(2.0, rel=0.2)
    assert (factors.n, factors.until) == (240, datetime(2022, 3, 31))
    first = fits.outcomes[0]
    assert (first.asset_class, first.step, first.n, first.n_since) == ("equity", 1, 240, 116)
    assert first.raw_coverage < 0.55
    # 116 outcomes: a standard error of 4 points
    assert first.coverage == pytest.approx(0.80, abs=0.06)


def test_a_class_or_step_with_a_short_record_uses_the_pooled_one() -> None:
    few = record("BTC-USD", sessions=12, width=1.0)
    calibration = fitted(*map(record, EQUITIES), few).calibration
    assert ("crypto", 1) not in calibration.pools
    assert calibration.factors("BTC-USD", 1) == calibration.pools[ALL_CLASSES, 1]
    assert calibration.factors("AAPL", 1) == calibration.pools["equity", 1]
    assert calibration.factors("AAPL", 9) == calibration.pools["equity", 0]
    assert calibration.factors("ETH-USD", 9) == calibration.pools[ALL_CLASSES, 0]


def test_a_class_with_enough_record_gets_separate_factors() -> None:
    crypto = [record(f"C{number}-USD", width=1.0) for number in range(4)]
    pools = fitted(*map(record, EQUITIES), *crypto).calibration.pools
    assert pools["equity", 1].values[EIGHTY] == pytest.approx(2.0, rel=0.2)
    assert pools["crypto", 1].values[EIGHTY] == pytest.approx(1.0, rel=0.2)


def test_after_twenty_nights_the_bands_are_still_raw() -> None:
    fits = fitted(*(record(symbol, sessions=20) for symbol in EQUITIES))
    assert fits.calibration.pools == {}
    assert {(outcome.pool, outcome.factor, outcome.coverage) for outcome in fits.outcomes} == {
        (None, None, None)
    }
    assert fits.calibration.apply(forecast()) == forecast()


def test_a_new_revision_of_the_model_begins_with_an_empty_record() -> None:
    old = [record(symbol) for symbol in EQUITIES]
    new = [record(symbol, sessions=10, revision="r2") for symbol in EQUITIES]
    first, second = fit([*old, *new])
    assert first.calibration.pools
    assert second.calibration.key == ("mini", "r2", "1d")
    assert second.calibration.pools == {}


# applying ---------------------------------------------------------------------------------


def test_a_calibrated_forecast_has_wider_bands_the_same_median_and_keeps_the_raw_ones() -> None:
    made = Calibration(key_of(forecast()), {("equity", 0): TWICE}).apply(forecast())
    assert made.calibration == "conformal until 2024-01-05, n=480"
    [bar, _] = made.bars
    raw = forecast().bars[0]
    assert bar.raw == raw
    assert list(bar.close_quantiles) == list(QUANTILE_LEVELS)
    assert bar.close_quantiles[0.5] == pytest.approx(100.0)
    assert bar.close_quantiles[0.9] == pytest.approx(113.67, abs=0.01)
    assert bar.close_quantiles[0.1] == pytest.approx(87.97, abs=0.01)
    # the last close is 0.1 standard deviations below the median
    assert bar.prob_up == pytest.approx(0.54, abs=0.005)
    assert (bar.close, bar.high, bar.low) == (raw.close, raw.high, raw.low)
    frame = made.to_frame("space")
    assert frame.attrs["calibration"] == made.calibration
    assert frame["close_p90"].tolist() == pytest.approx(
        [bar.close_quantiles[0.9] for bar in made.bars], rel=1e-6
    )


def test_a_calibration_is_applied_once_and_only_to_its_model() -> None:
    calibration = Calibration(key_of(forecast()), {("equity", 0): TWICE})
    once = calibration.apply(forecast())
    assert calibration.apply(once) == once
    with pytest.raises(ValueError, match=r"the calibration of .* does not apply to .*'r2', '1d'\)"):
        calibration.apply(forecast(model_revision="r2"))


def test_a_step_without_a_factor_leaves_the_whole_forecast_raw() -> None:
    calibration = Calibration(key_of(forecast()), {("equity", 1): TWICE})
    assert calibration.apply(forecast(steps=1)).calibration != "raw"
    assert calibration.apply(forecast(steps=2)) == forecast(steps=2)


# in the database --------------------------------------------------------------------------


def test_stored_factors_stay_when_a_later_record_is_too_short_for_new_ones(database: str) -> None:
    calibration = fitted(*map(record, EQUITIES)).calibration
    with get_db_session(database) as session:
        assert store(session, calibration) == len(calibration.pools) * 9
    with get_db_session(database) as session:
        store(session, Calibration(calibration.key, {}))
        store(session, replace(calibration, pools={("equity", 1): TWICE}))
    with get_db_session(database) as session:
        found = load(session, calibration.key)
        assert load(session, ("mini", "r2", "1d")) is None
    assert found is not None
    assert found.pools == {**calibration.pools, ("equity", 1): TWICE}


@pytest.mark.parametrize(
    ("column", "value"),
    [
        *(("factor", value) for value in (-1.0, 0.0, 1e-300, 1e300, float("inf"), "x")),
        *(("n", value) for value in (-5, 0, "x")),
        *(("until", value) for value in ("yesterday", "")),
    ],
)
def test_a_damaged_row_is_reported_and_its_pool_skipped(
    sqlite_url: str, column: str, value: Any, caplog: pytest.LogCaptureFixture
) -> None:
    key = key_of(forecast("AAPL"))
    pools = {("equity", 1): TWICE, (ALL_CLASSES, 1): replace(TWICE, values=(3.0,) * 9)}
    damage = f"UPDATE kronos_calibrations SET {column} = :value WHERE asset_class = 'equity'"
    with get_db_session(sqlite_url) as session:
        store(session, Calibration(key, pools))
        session.execute(text(damage), {"value": value})
    with get_db_session(sqlite_url) as session:
        found = load(session, key)
    assert found is not None
    assert found.pools == {(ALL_CLASSES, 1): pools[ALL_CLASSES, 1]}
    assert "kronos_calibrations: a row of" in caplog.text
    assert "is damaged" in caplog.text


def test_the_bots_get_the_calibrated_bands_and_the_ledger_keeps_both(database: str) -> None:
    raw = forecast()
    made = Calibration(key_of(raw), {("equity", 0): TWICE}).apply(raw)
    with get_db_session(database) as session:
        store_forecasts(session, [made])
    with get_db_session(database) as session:
        row = session.scalars(select(KronosPrediction).filter_by(horizon_days=1)).one()
        assert row.calibration == made.calibration
        assert row.close_p90 == pytest.approx(113.67, abs=0.01)
        assert row.prob_up == pytest.approx(made.bars[0].prob_up)
        kept = session.scalars(select(KronosForecast).filter_by(horizon_days=1)).one()
        assert kept.calibration == made.calibration
        assert kept.close_quantiles["0.9"] == pytest.approx(106.62, abs=0.01)
        assert kept.calibrated_quantiles is not None
        assert kept.calibrated_quantiles["0.9"] == pytest.approx(113.67, abs=0.01)
        assert kept.prob_up == 0.65
        asked: dict[str, Any] = {"interval": "1d", "horizon": 2}
        assert latest_stored(session, "AAPL", as_of=MONDAY, **asked) == made
        assert already_stored(
            session, ["AAPL"], as_of={"AAPL": MONDAY}, model_name="mini", **asked
        ) == {"AAPL"}
        session.execute(text("DELETE FROM kronos_predictions"))  # as newer nights do
        assert latest_stored(session, "AAPL", as_of=MONDAY, **asked) == made


def test_a_forecast_made_again_replaces_the_bands_of_the_bots_and_not_the_ledger(
    database: str,
) -> None:
    raw = forecast()
    again = Calibration(key_of(raw), {("equity", 0): TWICE}).apply(
        replace(raw, made_at=datetime(2024, 1, 8, 23))
    )
    with get_db_session(database) as session:
        store_forecasts(session, [raw])
        store_forecasts(session, [again])
    with get_db_session(database) as session:
        assert {row.calibration for row in session.scalars(select(KronosForecast))} == {"raw"}
        found = latest_stored(session, "AAPL", interval="1d", horizon=2, as_of=MONDAY)
    assert found is not None
    assert found.calibration == again.calibration
    assert found.bars[0].close_quantiles[0.9] == pytest.approx(113.67, abs=0.01)


# the job, the client, the tool ------------------------------------------------------------


def nano_s_past(space_url: str, sessions: int = 40) -> tuple[list[Forecast], tuple[str, str, str]]:
    """Return sample forecasts before its as_of, as kronos-nano might make them, with too narrow
    bands.
    """
    with KronosClient(space_url) as client:
        health = client.health()
    revision = recorded_revision(health["model_revision"], anchored=True)
    made = []
    for symbol in DataService("sample").symbols():
        closes = DataService("sample").history(symbol, bars=sessions + 2)["close"]
        for number in range(sessions):
            last, days = float(closes.iloc[number]), closes.index[number + 1 : number + 3]
            bars = [
                ForecastBar(
                    step=step, target_date=day.to_pydatetime(), open=last, high=last, low=last,
                    close=last, volume=0.0, prob_up=0.5,
                    close_quantiles=dict(
                        zip(QUANTILE_LEVELS, (last * np.exp(0.002 * Z)).tolist(), strict=True)
                    ),
                )
                for step, day in enumerate(days, start=1)
            ]  # fmt: skip
            made.append(
                forecast(
                    symbol, model_name=health["model"], model_revision=revision,
                    as_of=closes.index[number].to_pydatetime(), last_close=last, bars=tuple(bars),
                )
            )  # fmt: skip
    return made, key_of(made[0])


@contextmanager
def client_of(space_url: str) -> Iterator[SpaceClient]:
    with SpaceClient(SpaceAddress(space_url)) as client:
        yield client


def night(space_url: str, url: str, symbols: tuple[str, ...], *, horizon: int) -> RunSummary:
    """Run the nightly job on the sample."""
    with ProgressReporter() as reporter:
        job = NightlyJob(
            Settings(data_source="sample", horizon=horizon, samples=4),
            JobOptions(symbols=symbols),
            JobDatabase(url),
            DataService("sample"),
            lambda lock, wake_log: client_of(space_url),
            reporter,
        )
        return job.summary(job.run())


def test_the_job_refits_and_stores_calibrated_bands_that_the_client_also_returns(
    space_url: str, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    past, key = nano_s_past(space_url)
    with get_db_session(database) as session:
        store_forecasts(session, past)
    made = night(space_url, database, ("AAPL", "IBM"), horizon=2).forecasts["AAPL"]
    # two tickers: too few for separate steps
    assert made.calibration == "conformal until 2013-02-21, n=160"
    with get_db_session(database) as session:
        found = load(session, key)
        rows = session.scalars(
            select(KronosForecast).where(KronosForecast.as_of == made.as_of)
        ).all()
    assert found is not None
    assert {row.calibration for row in rows} == {made.calibration}
    assert all(row.calibrated_quantiles for row in rows)

    monkeypatch.setenv("DATABASE_URL", database)
    with KronosClient(space_url, data=DataService("sample"), samples=4) as client:
        frame = client.forecast("AAPL", 2)
    assert frame.attrs["calibration"] == made.calibration
    assert frame["close_p90"].tolist() == pytest.approx(
        [bar.close_quantiles[0.9] for bar in made.bars], rel=1e-6
    )


def test_with_enough_record_the_job_and_the_client_give_the_same_combined_forecast(
    space_url: str, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    past, key = nano_s_past(space_url, sessions=60)
    with get_db_session(database) as session:
        store_forecasts(session, past)
    made = night(space_url, database, ("AAPL", "IBM"), horizon=2).forecasts["AAPL"]
    assert (
        made.calibration == "combined until 2013-02-15, n=114"
    )  # four days earlier: two of four tickers lag
    assert made.kronos_share < 0.25  # because its bands are so narrow
    assert sum(made.shares.values()) == pytest.approx(1)
    with get_db_session(database) as session:
        rows = session.scalars(
            select(KronosForecast).where(
                KronosForecast.as_of == made.as_of, KronosForecast.symbol == "AAPL"
            )
        ).all()
        known = load_combination(session, key)
    assert known is not None
    for row, bar in zip(rows, made.bars, strict=True):
        assert row.combined_quantiles["0.9"] == bar.close_quantiles[0.9]
        assert row.calibrated_quantiles["0.9"] > row.close_quantiles["0.9"]
        assert row.close_quantiles["0.9"] == bar.raw.close_quantiles[0.9]

    again = night(space_url, database, ("AAPL", "IBM"), horizon=2)  # another run in the same night
    assert again.forecasts["AAPL"].bars[0].close_quantiles == made.bars[0].close_quantiles
    with get_db_session(database) as session:
        assert load_combination(session, key) == known

    monkeypatch.setenv("DATABASE_URL", database)
    with KronosClient(space_url, data=DataService("sample"), samples=4) as client:
        frame = client.forecast("AAPL", 2, paths=True)
        alone = client.forecast("AAPL", 2, forecast="kronos")
        with pytest.raises(ValueError, match="forecast='x': expected 'combined' or 'kronos'"):
            client.predict("AAPL", forecast="x")
    assert alone.attrs["calibration"].startswith("conformal")
    assert alone["kronos_share"].tolist() == [1.0, 1.0]
    assert alone["close"].tolist() == frame["close"].tolist()
    assert alone["close_p90"].tolist() != frame["close_p90"].tolist()
    assert frame.paths is not None
    assert np.quantile(frame.paths[:, 0, 3], 0.9) == pytest.approx(frame["close_p90"][0], rel=0.01)
    assert frame.attrs["calibration"] == made.calibration
    assert frame.attrs["shares"] == made.shares
    assert frame["close_p90"].tolist() == pytest.approx(
        [bar.close_quantiles[0.9] for bar in made.bars], rel=1e-6
    )
    assert frame["kronos_share"].tolist() == [made.kronos_share] * 2


def test_a_calibration_that_fails_is_a_warning_and_the_bands_stay_raw(
    space_url: str, sqlite_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with get_db_session(sqlite_url) as session:
        store_forecasts(session, nano_s_past(space_url)[0])
        session.execute(text("ALTER TABLE kronos_calibrations RENAME COLUMN factor TO other"))
    done = night(space_url, sqlite_url, ("AAPL",), horizon=1)
    assert done.made == ["AAPL"]
    assert done.forecasts["AAPL"].calibration == "raw"
    output = capsys.readouterr().err
    assert "Warning: the bands could not be calibrated and stay raw: " in output
    assert "Traceback" not in output


@pytest.mark.parametrize("mistake", [ZeroDivisionError("oops"), InvalidRequestError("oops")])
def test_a_bug_in_the_calibration_is_logged_with_its_traceback_and_the_night_continues(
    mistake: Exception,
    space_url: str,
    sqlite_url: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fit(record: object) -> None:
        raise mistake

    monkeypatch.setattr("tradingbot.jobs.postprocessing.fit", fit)
    done = night(space_url, sqlite_url, ("AAPL",), horizon=1)
    assert done.forecasts["AAPL"].calibration == "raw"
    assert done.made == ["AAPL"]
    output = capsys.readouterr().err
    assert "Error: the bands could not be calibrated and stay raw" in output
    assert output.count(f"{type(mistake).__name__}: oops") == 1
    assert "Traceback (most recent call last)" in output


WAITING = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
    " AND state LIKE 'idle in transaction%'"
)


def watched(work: Callable[..., Any], url: str, waiting: list[int]) -> Callable[..., Any]:
    """Wrap `work` to record how many transactions wait while it computes.

    A transaction of another thread may be between two statements, but only for a moment.
    """

    def watch(*args: Any, **options: Any) -> Any:
        with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
            connection.autocommit = True  # each query sees the current state
            deadline = time.monotonic() + 5
            while True:
                cursor.execute(WAITING)
                [count] = cursor.fetchone()
                if not count or time.monotonic() > deadline:
                    break
                time.sleep(0.01)
            waiting.append(count)
        return work(*args, **options)

    return watch


@pytest.mark.parametrize(
    "name",
    [
        "tradingbot.jobs.postprocessing.fit",
        "tradingbot.evaluation.close_outcomes._joined",
        "tradingbot.evaluation.scoring.MetricAccumulator.of_matured",
        "tradingbot.persistence.ledger._columns",
    ],
)
def test_no_transaction_stays_open_during_calibration_or_scoring(
    name: str,
    space_url: str,
    postgres_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A server with an idle_in_transaction_session_timeout would end such transactions."""
    past, _ = nano_s_past(space_url)
    with get_db_session(postgres_url) as session:
        store_forecasts(session, past)
    waiting: list[int] = []
    monkeypatch.setattr(name, watched(pkgutil.resolve_name(name), postgres_url, waiting))
    done = night(space_url, postgres_url, ("AAPL", "IBM"), horizon=2)
    assert done.forecasts["AAPL"].calibration.startswith("conformal")
    assert waiting
    assert not any(waiting)
    with get_db_session(postgres_url) as session:
        assert session.scalar(select(func.count()).select_from(KronosScore))


def fail(error: Exception) -> Callable[..., Any]:
    def failing(*args: Any, **options: Any) -> Any:
        raise error

    return failing


STEPS = "tradingbot.jobs.postprocessing"


@pytest.mark.parametrize(
    ("name", "error"),
    [
        (f"{STEPS}.resolve_outcomes", DataError("no candles")),
        (f"{STEPS}.fit", DatabaseUnavailable("it has ended the session")),
        (f"{STEPS}.store", DatabaseError("no permission")),
        (f"{STEPS}.load", MemoryError("too large")),
        ("tradingbot.postprocessing.bands.Calibration.apply", ValueError("a bug")),
        (f"{STEPS}.learn", DatabaseUnavailable("it has ended the session")),
        (f"{STEPS}.load_combination", MemoryError("too large")),
        (f"{STEPS}.store_combination", DatabaseError("no permission")),
        ("tradingbot.postprocessing.combined_forecast.Combination.apply", ValueError("a bug")),
    ],
)
def test_failures_in_calibrating_or_combining_lose_no_forecast(
    name: str,
    error: Exception,
    space_url: str,
    sqlite_url: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    past, _ = nano_s_past(space_url)
    with get_db_session(sqlite_url) as session:
        store_forecasts(session, past)
    monkeypatch.setattr(name, fail(error))
    with use_timeouts(Timeouts(database_retry=0.0)):
        done = night(space_url, sqlite_url, ("AAPL", "IBM"), horizon=2)
    assert (done.ending.exit_code, done.made) == (0, ["AAPL", "IBM"])
    output = capsys.readouterr().err
    if "comb" in name or "learn" in name:
        assert done.forecasts["AAPL"].calibration.startswith("conformal")
        assert "the forecasts could not be combined and are Kronos' own" in output
    else:
        assert "the bands could not be calibrated and stay raw" in output
    assert str(error) in output


def test_without_a_database_the_clients_bands_are_raw_and_labelled_raw(
    space_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with KronosClient(space_url, data=DataService("sample"), samples=4) as client:
        assert client.forecast("AAPL", 1).attrs["calibration"] == "raw"
    assert list(tmp_path.iterdir()) == []


def test_the_tool_says_whether_its_range_is_calibrated() -> None:
    raw = forecast()
    made = Calibration(key_of(raw), {("equity", 0): TWICE}).apply(raw)
    text = forecast_text(forecast_document(raw, MONDAY, "space"))
    assert "The range is raw, as the model gives it" in text
    text = forecast_text(forecast_document(made, MONDAY, "space"))
    assert "The range is calibrated on past forecasts" in text
    assert "(conformal until 2024-01-05, n=480)" in text
    assert "87.97 to 113.67" in text


# the command ------------------------------------------------------------------------------


def calibrate(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["calibrate", *arguments])


def candles_of(past: Past, folder: Path) -> str:
    """Return a source with the closes after the forecasts of `past`."""
    for symbol in past.symbols:
        pd.DataFrame(past.candles(symbol)).to_csv(folder / f"{symbol}.csv", index=False)
    return f"csv:{folder}"


def test_calibrate_prints_each_class_and_step_and_stores_the_factors(
    database: str, tmp_path: Path
) -> None:
    past = Past(EQUITIES, sessions=60, horizon=2, width=0.5).store(database)
    asked = ["--database-url", database, "--source", candles_of(past, tmp_path)]
    dry = calibrate(*asked, "--dry-run")
    assert dry.exit_code == 0, dry.output
    lines = dry.stdout.splitlines()
    assert lines[0] == "mini, revision r1, 1d: the 80 % band"
    assert lines[1].startswith("Class")
    assert lines[2].split()[:3] == ["equity", "1", "236"]
    assert lines[-2:] == [
        "Left out 12: its candles end on 2024-05-15, before the target",
        "Stored nothing: a dry run",
    ]
    with get_db_session(database) as session:
        assert load(session, ("mini", "r1", "1d")) is None

    done = calibrate(*asked, "--json")
    output = json.loads(done.stdout)
    assert (output["exit_code"], output["error"], output["rows"]) == (0, None, 6 * 9)
    [model] = output["models"]
    assert (model["model"], model["revision"], model["interval"]) == ("mini", "r1", "1d")
    first, second = model["bands"]
    assert (first["asset_class"], first["step"], first["learnt_from"]) == (
        "equity", 1, "equity, step 1",
    )  # fmt: skip
    assert first["raw"] < 0.6 < first["calibrated"]
    assert second["factor"] == pytest.approx(2.0, rel=0.2)
    with get_db_session(database) as session:
        stored = load(session, ("mini", "r1", "1d"))
    assert stored is not None
    assert stored.pools["equity", 2].values[EIGHTY] == second["factor"]


def test_calibrate_says_where_the_record_is_too_short_and_bands_stay_raw(
    sqlite_url: str, tmp_path: Path
) -> None:
    past = Past(["AAPL"], sessions=20, horizon=2).store(sqlite_url)
    done = calibrate("--database-url", sqlite_url, "--source", candles_of(past, tmp_path))
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[-1] == (
        "Too little: mini has 37 forecasts with an outcome; its bands stay raw until 100 forecasts "
        "on 30 sessions have one"
    )
    assert "raw" in done.stdout.splitlines()[2].split()


def test_calibrate_uses_the_source_of_the_last_run_and_reports_missing_candles(
    sqlite_url: str, tmp_path: Path
) -> None:
    past = Past(["AAPL"], sessions=20, horizon=2)
    past.store(sqlite_url, source=candles_of(past, tmp_path), candles=False)
    done = calibrate("--database-url", sqlite_url, "--dry-run")
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[2].split()[:3] == ["equity", "1", "19"]

    (tmp_path / "AAPL.csv").rename(tmp_path / "IBM.csv")
    gone = calibrate("--database-url", sqlite_url)
    assert gone.exit_code == 1
    first, last = gone.stdout.splitlines()
    assert first.startswith("Left out 40: its candles are not available: no file AAPL.csv")
    assert last == "Learnt nothing: no forecast has a realised close yet"


def test_a_short_record_does_not_label_bands_with_earlier_factors_raw(
    sqlite_url: str, tmp_path: Path
) -> None:
    past = Past(["AAPL"], sessions=20, horizon=2).store(sqlite_url)
    with get_db_session(sqlite_url) as session:
        store(session, Calibration(("mini", "r1", "1d"), {("equity", 0): TWICE}))
    done = calibrate("--database-url", sqlite_url, "--source", candles_of(past, tmp_path))
    assert done.stdout.splitlines()[-1] == (
        "Too little: mini has 37 forecasts with an outcome; the previous factors stay until 100 "
        "forecasts on 30 sessions have one"
    )


def test_a_dry_run_on_another_schema_says_in_one_line_what_upgrades_it(database: str) -> None:
    Past(["AAPL"], sessions=1, horizon=1).store(database)
    with get_db_session(database) as session:  # a column that is read
        session.execute(text("ALTER TABLE kronos_forecasts DROP COLUMN close_quantiles"))
    done = calibrate("--database-url", database, "--dry-run")
    assert (done.exit_code, done.stdout) == (1, "")
    [line] = done.stderr.splitlines()
    assert "its tables are not those of this version" in line
    assert line.endswith("the next `kronosbot run` upgrades older ones")


def test_without_forecasts_calibrate_says_so_and_a_dry_run_creates_no_database(
    sqlite_url: str, tmp_path: Path
) -> None:
    done = calibrate("--database-url", sqlite_url, "--dry-run")
    assert done.exit_code == 0
    assert done.stdout.splitlines() == [
        "Too little: no forecast has an outcome yet; bands stay raw until 100 forecasts on 30 "
        "sessions have one",
        "Stored nothing: a dry run",
    ]
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_not_a_backtest_is_refused_in_one_line(
    tmp_path: Path, sqlite_url: str
) -> None:
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    done = calibrate("--backtest", str(tmp_path / "x.csv"), "--database-url", sqlite_url, "--json")
    assert done.exit_code == 2
    assert json.loads(done.stdout)["error"]["kind"] == "ConfigError"
    assert len(done.stderr.splitlines()) == 1
