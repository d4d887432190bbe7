"""Forecasts are stored and read, on SQLite and on a real Postgres."""

import math
import os
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sqlalchemy import and_, delete, event, or_, update

from tests.support import commands
from tradingbot.bots.universe import active_symbols
from tradingbot.forecast import QUANTILE_LEVELS, Forecast, ForecastBar
from tradingbot.markets.fingerprint import bars_hash
from tradingbot.path_events.event_probabilities import EventChance
from tradingbot.persistence.engine import get_db_session, init_db
from tradingbot.persistence.forecast_queries import (
    forecast_rows,
    newest_ahead,
    newest_forecasts,
    newest_model,
    newest_model_as_of,
    newest_until,
)
from tradingbot.persistence.forecasts import already_stored, latest_stored, store_forecasts
from tradingbot.persistence.ledger import ledger_parts, read_part
from tradingbot.persistence.models import BotRow, KronosEvent, KronosForecast, KronosPrediction

MONDAY, TUESDAY = datetime(2026, 1, 5), datetime(2026, 1, 6)
MODEL = "NeoQuasar/Kronos-mini"


def forecast(
    symbol: str = "SPY",
    *,
    as_of: datetime = MONDAY,
    close: float = 100.0,
    horizon: int = 5,
    model: str = MODEL,
    made_at: datetime | None = None,
) -> Forecast:
    """Return bars of consecutive days after `as_of`; the quantiles spread 10 around the close."""
    bars = tuple(
        ForecastBar(
            step=step,
            target_date=as_of + timedelta(days=step),
            open=close - 0.5,
            high=close + 1.0,
            low=close - 1.0,
            close=close,
            volume=1e6,
            close_quantiles={level: close + 20 * (level - 0.5) for level in QUANTILE_LEVELS},
            prob_up=0.55,
        )
        for step in range(1, horizon + 1)
    )
    return Forecast(
        symbol=symbol,
        interval="1d",
        model_name=model,
        model_revision="f4e6869",
        as_of=as_of,
        made_at=made_at or as_of + timedelta(hours=22, minutes=5),
        last_close=99.0,
        samples=20,
        seed=None,
        bars=bars,
    )


def with_bar(made: Forecast, **changes: Any) -> Forecast:
    """Return the forecast with its first bar changed."""
    return replace(made, bars=(replace(made.bars[0], **changes), *made.bars[1:]))


def store(url: str, *forecasts: Forecast) -> int:
    with get_db_session(url) as session:
        return store_forecasts(session, forecasts)


def predicted(url: str, symbol: str = "SPY") -> dict[datetime, float]:
    with get_db_session(url) as session:
        rows = session.query(KronosPrediction).filter_by(symbol=symbol)
        return {row.target_date: row.predicted_close for row in rows}


def believed(url: str, symbol: str = "SPY") -> dict[tuple[datetime, datetime], float]:
    with get_db_session(url) as session:
        rows = session.query(KronosForecast).filter_by(symbol=symbol)
        return {(row.as_of, row.target_date): row.predicted_close for row in rows}


# storing --------------------------------------------------------------------------------------


def test_every_bar_is_written_to_both_tables(database: str) -> None:
    assert store(database, forecast("SPY"), forecast("QQQ")) == 10
    with get_db_session(database) as session:
        row = session.query(KronosPrediction).filter_by(symbol="QQQ", horizon_days=2).one()
        assert row.target_date == datetime(2026, 1, 7)
        assert row.prediction_made_at == datetime(2026, 1, 5, 22, 5)
        assert (row.as_of, row.model_name, row.model_revision) == (MONDAY, MODEL, "f4e6869")
        assert (row.predicted_open, row.predicted_high) == (99.5, 101.0)
        assert (row.predicted_low, row.predicted_close) == (99.0, 100.0)
        assert (row.predicted_volume, row.last_close) == (1e6, 99.0)
        assert (row.close_p10, row.close_p50, row.close_p90) == (92.0, 100.0, 108.0)
        assert (row.prob_up, row.samples) == (0.55, 20)
        ledger = session.query(KronosForecast).filter_by(symbol="QQQ", horizon_days=2).one()
        assert set(ledger.close_quantiles) == {f"{level:g}" for level in QUANTILE_LEVELS}
        assert ledger.close_quantiles["0.05"] == pytest.approx(91.0)


def test_an_empty_list_writes_nothing(database: str) -> None:
    assert store(database) == 0
    assert store(database, replace(forecast(), bars=())) == 0


def test_storing_the_same_forecasts_twice_changes_no_count(database: str) -> None:
    store(database, forecast())
    assert store(database, forecast()) == 5
    assert (len(predicted(database)), len(believed(database))) == (5, 5)


def test_a_newer_vintage_replaces_the_days_they_share_and_the_ledger_keeps_both(
    database: str,
) -> None:
    store(database, forecast(as_of=MONDAY, close=100.0))
    store(database, forecast(as_of=TUESDAY, close=200.0))
    assert predicted(database) == {
        datetime(2026, 1, 6): 100.0,
        **{datetime(2026, 1, day): 200.0 for day in (7, 8, 9, 10, 11)},
    }
    assert len(believed(database)) == 10
    assert believed(database)[MONDAY, datetime(2026, 1, 7)] == 100.0


def test_an_older_vintage_fills_gaps_but_replaces_nothing(database: str) -> None:
    store(database, forecast(as_of=TUESDAY, close=200.0))
    assert store(database, forecast(as_of=MONDAY, close=100.0)) == 1
    assert predicted(database)[datetime(2026, 1, 6)] == 100.0
    assert predicted(database)[datetime(2026, 1, 7)] == 200.0
    assert len(believed(database)) == 10


def test_the_same_vintage_again_replaces_the_latest_but_not_the_ledger(database: str) -> None:
    store(database, forecast(close=100.0))
    store(database, forecast(close=101.0))
    assert set(predicted(database).values()) == {101.0}
    assert set(believed(database).values()) == {100.0}


def test_any_forecast_replaces_a_row_without_as_of(database: str) -> None:
    store(database, forecast(close=100.0))
    with get_db_session(database) as session:
        session.query(KronosPrediction).update({"as_of": None})
    assert store(database, forecast(close=101.0)) == 5
    assert set(predicted(database).values()) == {101.0}


def test_the_last_copy_of_a_forecast_listed_twice_is_stored(database: str) -> None:
    assert store(database, forecast(close=100.0), forecast(close=101.0)) == 5
    assert set(predicted(database).values()) == {101.0}


def test_the_newest_of_several_vintages_in_any_order_is_stored(database: str) -> None:
    store(database, forecast(as_of=TUESDAY, close=200.0), forecast(as_of=MONDAY, close=100.0))
    assert predicted(database)[datetime(2026, 1, 7)] == 200.0
    assert len(believed(database)) == 10


def test_two_models_do_not_overwrite_each_other(database: str) -> None:
    assert store(database, forecast(), forecast(model="kronos-nano")) == 10
    with get_db_session(database) as session:
        assert session.query(KronosPrediction).count() == 10


def test_numbers_and_times_of_numpy_and_pandas_are_stored(database: str) -> None:
    made = with_bar(
        replace(forecast(), last_close=np.float64(99.5), as_of=pd.Timestamp(MONDAY)),
        close=np.float32(100.5),
        target_date=pd.Timestamp("2026-01-06 00:00:00.000001"),
        close_quantiles={level: np.float64(level) for level in QUANTILE_LEVELS},
    )
    store(database, made)
    assert predicted(database)[TUESDAY] == 100.5


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("field", ["open", "close", "volume", "prob_up"])
def test_an_invalid_number_is_refused_and_nothing_is_written(
    sqlite_url: str, field: str, bad: float
) -> None:
    with pytest.raises(ValueError, match=f"QQQ 1d step 1: {field} is {bad}"):
        store(sqlite_url, forecast("SPY"), with_bar(forecast("QQQ"), **{field: bad}))
    assert predicted(sqlite_url) == {}


def test_an_invalid_or_missing_quantile_is_refused(sqlite_url: str) -> None:
    quantiles = dict(forecast().bars[0].close_quantiles)
    with pytest.raises(ValueError, match=r"step 1: quantile 0\.35 is nan"):
        store(sqlite_url, with_bar(forecast(), close_quantiles=quantiles | {0.35: math.nan}))
    del quantiles[0.9]
    with pytest.raises(ValueError, match=r"quantiles \[0\.9\] of close are missing"):
        store(sqlite_url, with_bar(forecast(), close_quantiles=quantiles))


def test_more_rows_than_one_statement_takes_are_stored(database: str) -> None:
    forecasts = [forecast(f"T{number:04d}") for number in range(500)]
    assert store(database, *forecasts) == 2500
    with get_db_session(database) as session:
        assert session.query(KronosForecast).count() == 2500


@pytest.mark.integration
def test_two_processes_that_store_the_same_forecasts_leave_each_row_once(database: str) -> None:
    init_db(database)
    processes = [
        commands.piped("-c", STORE_MANY, database, way, env=os.environ) for way in ("1", "-1")
    ]
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert (process.returncode, errors) == (0, "")
    with get_db_session(database) as session:
        assert session.query(KronosPrediction).count() == 300
        assert session.query(KronosForecast).count() == 300


def test_a_thousand_rows_take_a_few_statements(database: str) -> None:
    statements: list[str] = []
    engine = init_db(database)
    event.listen(engine, "before_cursor_execute", lambda *args: statements.append(args[2]))
    store(database, *(forecast(f"T{number:04d}") for number in range(200)))
    inserts = [statement for statement in statements if statement.startswith("INSERT")]
    assert 2 <= len(inserts) <= 10  # into two tables


STORE_MANY = """
import sys
from datetime import datetime
from tradingbot.persistence.engine import get_db_session
from tradingbot.forecast import Forecast, ForecastBar
from tradingbot.persistence.forecasts import store_forecasts

day = datetime(2026, 1, 5)
bar = ForecastBar(1, datetime(2026, 1, 6), 1, 2, 0.5, 1.5, 9, {0.1: 1, 0.5: 1.5, 0.9: 2}, 0.5)
symbols = [f"T{number:04d}" for number in range(300)][:: int(sys.argv[2])]
forecasts = [Forecast(s, "1d", "m", None, day, day, 1.0, 20, None, (bar,)) for s in symbols]
for _ in range(5):
    with get_db_session(sys.argv[1]) as session:
        store_forecasts(session, forecasts)
"""


# forecasts already stored ---------------------------------------------------------------------


def stored_symbols(url: str, *symbols: str, **changes: Any) -> set[str]:
    asked: dict[str, Any] = dict(
        as_of=dict.fromkeys(symbols, MONDAY), model_name=MODEL, interval="1d", horizon=5
    )
    with get_db_session(url) as session:
        return already_stored(session, symbols, **asked | changes)


def test_a_forecast_is_already_stored_if_its_whole_horizon_is(database: str) -> None:
    store(database, forecast("SPY"), forecast("QQQ", horizon=4))
    assert stored_symbols(database, "SPY", "QQQ", "GLD") == {"SPY"}
    assert stored_symbols(database, "SPY", "QQQ", "GLD", horizon=4) == {"SPY", "QQQ"}
    assert stored_symbols(database, "SPY", horizon=6) == set()


def test_forecasts_that_only_the_ledger_still_has_are_already_stored(database: str) -> None:
    store(database, forecast("SPY", as_of=TUESDAY))
    store(database, forecast("SPY", as_of=MONDAY, horizon=20))  # as with --horizon 20
    assert stored_symbols(database, "SPY", horizon=20) == {"SPY"}


def test_the_as_of_may_differ_between_symbols(database: str) -> None:
    store(database, forecast("SPY", as_of=TUESDAY), forecast("BTC-USD", as_of=MONDAY))
    both = {"SPY": TUESDAY, "BTC-USD": MONDAY}
    assert stored_symbols(database, "SPY", "BTC-USD", as_of=both) == {"SPY", "BTC-USD"}
    swapped = {"SPY": MONDAY, "BTC-USD": TUESDAY}
    assert stored_symbols(database, "SPY", "BTC-USD", as_of=swapped) == set()


def test_forecasts_of_other_models_and_intervals_do_not_count_as_stored(database: str) -> None:
    store(database, forecast("SPY", model="kronos-nano"))
    assert stored_symbols(database, "SPY") == set()
    assert stored_symbols(database, "SPY", model_name="kronos-nano", interval="1h") == set()


def test_without_symbols_or_as_of_nothing_is_already_stored(database: str) -> None:
    store(database, forecast("SPY"))
    assert stored_symbols(database) == set()
    assert stored_symbols(database, "SPY", as_of={}) == set()


# the latest stored forecast -------------------------------------------------------------------


def latest(url: str, **changes: Any) -> Forecast | None:
    asked: dict[str, Any] = dict(interval="1d", horizon=5, as_of=MONDAY)
    with get_db_session(url) as session:
        return latest_stored(session, "SPY", **asked | changes)


def test_the_latest_forecast_is_returned_as_it_was_stored(database: str) -> None:
    store(database, forecast())
    assert latest(database) == forecast()


def test_the_latest_forecast_is_cut_to_the_requested_horizon(database: str) -> None:
    store(database, forecast())
    found = latest(database, horizon=2)
    assert found is not None
    assert [bar.step for bar in found.bars] == [1, 2]


def test_a_stored_forecast_is_not_that_of_another_horizon_as_of_or_interval(database: str) -> None:
    store(database, forecast())
    assert latest(database, horizon=6) is None
    assert latest(database, as_of=TUESDAY) is None
    assert latest(database, interval="1h") is None


def test_a_forecast_whose_days_a_newer_vintage_replaced_comes_from_the_ledger(
    database: str,
) -> None:
    store(database, forecast())
    store(database, forecast(as_of=TUESDAY))  # this replaces four of Monday's bars
    assert latest(database) == forecast()
    assert latest(database, as_of=TUESDAY) == forecast(as_of=TUESDAY)


def test_the_latest_forecast_is_the_newest_complete_one_of_one_model(database: str) -> None:
    early, late = datetime(2026, 1, 5, 22), datetime(2026, 1, 5, 23)
    whole = forecast(model="kronos-nano", made_at=early)
    store(database, whole, forecast(horizon=3, made_at=late))
    assert latest(database) == whole
    store(database, forecast(made_at=late))
    assert latest(database) == forecast(made_at=late)


def test_a_forecast_stored_again_returns_its_own_three_quantiles(database: str) -> None:
    store(database, forecast(close=100.0))
    store(database, forecast(close=300.0, made_at=datetime(2026, 1, 6, 3)))
    found = latest(database)
    assert found is not None
    assert found.made_at == datetime(2026, 1, 6, 3)
    assert found.bars[0].close_quantiles == {0.1: 292.0, 0.5: 300.0, 0.9: 308.0}
    assert list(found.to_frame("stored")["close_p10"]) == [292.0] * 5


def asked(made: Forecast, probability: float, **changes: Any) -> Forecast:
    shares = (probability,) * made.horizon
    chance = EventChance("touch +2%", shares, (0.0,) * made.horizon, (1.0,) * made.horizon)
    return replace(made, events=(replace(chance, **changes),))


def test_the_first_event_probabilities_of_a_vintage_are_kept(database: str) -> None:
    first = asked(forecast(horizon=2), 0.3)
    corrected = asked(replace(forecast(horizon=2), bars_hash="other bars"), 0.4)
    again = asked(replace(forecast(horizon=2), made_at=TUESDAY), 0.9)
    store(database, first, corrected, first)
    store(database, again)
    with get_db_session(database) as session:
        rows = session.query(KronosEvent).order_by(KronosEvent.bars_hash, KronosEvent.target_date)
        found = [(row.bars_hash, row.target_date, row.event, row.probability) for row in rows]
    assert found == [
        (made_from, MONDAY + timedelta(days=step), "touch +2%", chance)
        for made_from, chance in (("", 0.3), ("other bars", 0.4))
        for step in (1, 2)
    ]


def test_an_invalid_event_probability_is_refused_with_its_forecast(sqlite_url: str) -> None:
    wrong = asked(forecast(horizon=1), 0.3, mean=(math.nan,))
    with pytest.raises(ValueError, match=r"SPY 'touch .2%' step 1: mean is nan, which cannot be"):
        store(sqlite_url, wrong)
    assert predicted(sqlite_url) == {}


@pytest.mark.no_tables
def test_active_symbols_are_the_tickers_of_all_portfolios(database: str) -> None:
    with get_db_session(database, create=False) as session:
        assert active_symbols(session) == [], "no table counts as an empty one"
    with get_db_session(database) as session:
        assert active_symbols(session) == []
        session.add(BotRow(name="empty"))
        session.add(BotRow(name="trend", portfolio={"USD": 10_000.0, "SPY": 0.0, "AAPL": 2.5}))
        session.add(BotRow(name="pairs", portfolio={"USD": 1.0, "AAPL": 0.0, "EURUSD=X": 3.0}))
    with get_db_session(database) as session:
        assert active_symbols(session) == ["AAPL", "EURUSD=X", "SPY"]


# vintages: a corrected newest bar changes the candles and creates a new one -------------------


UNFINISHED = replace(forecast(close=90.0, made_at=MONDAY + timedelta(hours=15)), bars_hash="aaaa")
COMPLETE = replace(forecast(close=100.0), bars_hash="bbbb")
CORRECTED = replace(forecast(close=101.0, made_at=TUESDAY), bars_hash="cccc")


def test_a_later_vintage_replaces_the_prediction_and_the_ledger_keeps_both(database: str) -> None:
    store(database, UNFINISHED)
    store(database, COMPLETE)
    store(database, replace(COMPLETE, made_at=TUESDAY, bars=forecast(close=70.0).bars))
    assert predicted(database)[TUESDAY] == 70.0
    with get_db_session(database) as session:
        rows = session.query(KronosForecast).filter_by(horizon_days=1).all()
        assert {row.bars_hash: row.predicted_close for row in rows} == {
            "aaaa": 90.0,
            "bbbb": 100.0,
        }


def test_a_vintage_counts_as_stored_only_for_its_own_candles(database: str) -> None:
    store(database, COMPLETE)

    def there(made_from: str) -> set[str]:
        with get_db_session(database) as session:
            return already_stored(
                session,
                ["SPY"],
                as_of={"SPY": MONDAY},
                model_name=MODEL,
                interval="1d",
                horizon=5,
                bars={"SPY": made_from},
            )

    assert there("bbbb") == {"SPY"}
    assert there("cccc") == set()


def test_the_first_vintage_from_complete_bars_is_scored(database: str) -> None:
    store(database, UNFINISHED)
    store(database, COMPLETE)
    store(database, CORRECTED)
    with get_db_session(database) as session:
        [part] = ledger_parts(session)
    rows = read_part(partial(get_db_session, database), part)
    assert rows is not None
    assert rows.mean.tolist() == pytest.approx([100 / 99] * 5)


def test_the_hash_of_bars_detects_added_and_corrected_bars_but_no_rounding() -> None:
    bars = pd.DataFrame(
        {"open": 1.5, "high": 2.0, "low": 1.0, "close": [1.7, 1.8], "volume": [0.0, 9e9]},
        index=pd.DatetimeIndex([MONDAY, TUESDAY]),
    )
    same = bars * (1 + 1e-12)
    corrected = bars.assign(close=[1.7, 1.81])
    assert bars_hash(bars) == bars_hash(same)
    assert len({bars_hash(bars), bars_hash(corrected), bars_hash(bars.iloc[:1])}) == 3


NAN = float("nan")
WIDE = {f"{level:g}": 90 + 20 * level for level in QUANTILE_LEVELS}


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        ({"close_quantiles": WIDE | {"0.1": NAN}}, "close_quantiles 0.1 is nan"),
        ({"close_quantiles": WIDE | {"0.1": -2.0}}, "close_quantiles 0.1 is -2.0"),
        ({"close_quantiles": WIDE | {"0.1": "x"}}, "close_quantiles 0.1 is x"),
        ({"close_quantiles": WIDE | {"0.1": 10**400}}, "close_quantiles 0.1 is 1000"),
        ({"shares": {"kronos": "x"}}, "shares is {'kronos': 'x'}"),
        ({"combined_quantiles": WIDE | {"0.1": 200.0}}, "combined_quantiles cross: a higher level"),
        (
            {"calibrated_quantiles": WIDE | {"low": 1.0}},
            "calibrated_quantiles has levels that are not numbers",
        ),
    ],
)
def test_a_damaged_row_is_reported_in_one_line_and_never_served(
    sqlite_url: str, caplog: pytest.LogCaptureFixture, damage: dict[str, Any], reason: str
) -> None:
    store(sqlite_url, forecast())
    with get_db_session(sqlite_url) as session:
        for table in (KronosForecast, KronosPrediction):
            known = {name: value for name, value in damage.items() if hasattr(table, name)}
            if known:
                session.execute(update(table).where(table.horizon_days == 2).values(**known))
    with get_db_session(sqlite_url) as session:
        find = partial(latest_stored, session, "SPY", interval="1d", as_of=MONDAY)
        assert find(horizon=1) is not None
        assert find(horizon=5) is None
    lines = {record.getMessage() for record in caplog.records}
    assert any(
        f"SPY, the forecast of 2026-01-07 from 2026-01-05 is damaged: {reason}" in line
        for line in lines
    )
    assert all("\n" not in line for line in lines)


# challengers: their forecasts are stored and scored, but returned only on request -------------


@pytest.fixture
def both(database: str) -> str:
    """The champion's forecasts of Monday and Tuesday, and later ones of a challenger."""
    store(database, forecast(), forecast(as_of=TUESDAY))
    rivals = [
        forecast(as_of=as_of, model="rival", close=500.0, made_at=TUESDAY + timedelta(days=2))
        for as_of in (MONDAY, TUESDAY)
    ]
    with get_db_session(database) as session:
        assert store_forecasts(session, rivals, challenger=True) == 0
    return database


def test_forecasts_of_challengers_are_stored_only_in_the_ledger(both: str) -> None:
    assert 500.0 not in predicted(both).values()
    with get_db_session(both) as session:
        rows = session.query(KronosForecast).all()
        assert {(row.model_name, row.challenger) for row in rows} == {
            (MODEL, False), ("rival", True),
        }  # fmt: skip


@pytest.mark.parametrize(
    "model_of",
    [
        lambda session: latest_stored(
            session, "SPY", interval="1d", horizon=5, as_of=TUESDAY
        ).model_name,
        lambda session: latest_stored(
            session, "SPY", interval="1d", horizon=5, as_of=MONDAY,
            made_until=TUESDAY + timedelta(days=3),
        ).model_name,
        lambda session: newest_until(session, "SPY", TUESDAY).model_name,
        lambda session: newest_ahead(session, "SPY", 3, TUESDAY).model_name,
        lambda session: newest_model(session, ["SPY"], interval="1d"),
        lambda session: newest_model_as_of(
            session, ["SPY"], interval="1d", bar=TUESDAY, made_until=TUESDAY + timedelta(days=3)
        ),
        lambda session: {
            row.model_name for row in forecast_rows(session, "SPY", interval="1d", step=1)
        }.pop(),
        lambda session: next(
            newest.model for newest in newest_forecasts(session) if not newest.challenger
        ),
    ],
    ids=range(8),
)  # fmt: skip
def test_forecasts_of_challengers_are_not_returned_without_a_model_name(
    both: str, model_of: Callable[[Any], str]
) -> None:
    with get_db_session(both) as session:
        assert model_of(session) == MODEL


def test_forecasts_of_challengers_are_returned_by_name(both: str) -> None:
    with get_db_session(both) as session:
        found = latest_stored(
            session, "SPY", interval="1d", horizon=5, as_of=MONDAY, model_name="rival"
        )
        rows = forecast_rows(session, "SPY", interval="1d", step=1, model_name="rival")
        [other] = [newest for newest in newest_forecasts(session) if newest.challenger]
    assert found is not None
    assert found.bars[0].close == 500.0
    assert len(rows) == 2
    assert (other.model, other.as_of) == ("rival", TUESDAY)


def test_the_newest_forecast_of_each_ticker_and_model_is_found(database: str) -> None:
    """The result equals that of reading every row of both tables."""
    symbols, models = ("A", "B", "BTC-USD", "a"), ("m", "n", "o")
    stored = [
        forecast(symbol, as_of=MONDAY + timedelta(days=day), model=model, horizon=2)
        for number, (symbol, model) in enumerate(product(symbols, models))
        for day in range(number % 4)
    ]
    store(database, *stored)
    expected = {
        (item.model_name, "1d", item.symbol): max(
            other.as_of for other in stored
            if (other.symbol, other.model_name) == (item.symbol, item.model_name)
        )
        for item in stored
    }  # fmt: skip
    with get_db_session(database) as session:
        found = newest_forecasts(session)
        # as rows of an older layout
        session.query(KronosForecast).filter_by(symbol="A").delete()
        again = newest_forecasts(session)
        session.rollback()
    assert {(item.model, item.interval, item.symbol): item.as_of for item in found} == expected
    assert again == found == sorted(found, key=lambda item: (item.model, item.symbol))


def test_a_damaged_forecast_is_never_the_newest(database: str) -> None:
    for day in (MONDAY, TUESDAY):
        store(database, *(forecast(symbol, as_of=day, horizon=2) for symbol in "ABC"))
    damage = update(KronosForecast).values(horizon_days=-1)
    of_c = KronosForecast.symbol == "C"
    newest_of_a = and_(KronosForecast.symbol == "A", KronosForecast.as_of == TUESDAY)
    with get_db_session(database) as session:
        session.execute(damage.where(or_(of_c, newest_of_a)))
        session.execute(delete(KronosPrediction))
        found = newest_forecasts(session)
    assert {item.symbol: item.as_of for item in found} == {"A": MONDAY, "B": TUESDAY}


def test_a_challenger_that_becomes_the_champion_forecasts_again_for_the_bots(both: str) -> None:
    asked: dict[str, Any] = dict(
        as_of={"SPY": TUESDAY}, model_name="rival", interval="1d", horizon=5
    )
    with get_db_session(both) as session:
        assert already_stored(session, ["SPY"], **asked, challenger=True) == {"SPY"}
        assert already_stored(session, ["SPY"], **asked) == set()
        store_forecasts(session, [forecast(as_of=TUESDAY, model="rival", close=501.0)])
        assert already_stored(session, ["SPY"], **asked) == {"SPY"}
    assert 501.0 in predicted(both).values()
