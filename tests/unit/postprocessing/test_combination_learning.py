"""Weights learnt from the ledger night by night, and their effect on a forecast."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from sqlalchemy import delete, select, text, update
from sqlalchemy.orm import Session

from tests.support.records import LAST, Past
from tradingbot.cli.calibrate_output import calibration_document, show_calibration
from tradingbot.combination_shares import describe_shares
from tradingbot.data.stored_candles import bars_in_database
from tradingbot.errors import DataError
from tradingbot.forecast import (
    QUANTILE_LEVELS,
    Forecast,
    ForecastBar,
    prob_above,
)
from tradingbot.jobs.postprocessing import NightlyPostprocessing
from tradingbot.persistence.engine import get_db_session
from tradingbot.persistence.forecasts import latest_stored, store_forecasts
from tradingbot.persistence.models import KronosCombination, KronosForecast, KronosPrediction
from tradingbot.postprocessing.bands import ALL_CLASSES, Calibration, Factors
from tradingbot.postprocessing.combination_learning import first_without_candles, learn
from tradingbot.postprocessing.combined_forecast import Combination
from tradingbot.postprocessing.conformal import BANDS
from tradingbot.postprocessing.experts import FORECASTERS
from tradingbot.postprocessing.recalibration import recalibrate
from tradingbot.postprocessing.repository import (
    StoredPostprocessing,
    load_combination,
    newest_of_family,
    store,
    store_combination,
)
from tradingbot.runtime.progress import ProgressReporter
from tradingbot.settings import Settings, Timeouts

KEY = ("mini", "r1+anchored", "1d")
PAST = Past(("AAPL", "MSFT", "BTC-USD"), sessions=45, horizon=2, width=0.5, revision=KEY[1])
Learn = Callable[..., Combination]


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    url = f"sqlite:///{tmp_path_factory.mktemp('learning') / 'k.db'}"
    PAST.store(url)
    return url


@pytest.fixture(scope="module")
def learnt(database: str) -> Learn:
    """Learn from the ledger; the tickers of `without` have no candles."""
    sessions = partial(get_db_session, database)

    def of_ledger(
        start: Combination | None = None,
        *,
        before: datetime = LAST,
        without: Sequence[str] = (),
        later_prices: float = 1.0,
    ) -> Combination:
        def bars_of(symbol: str, interval: str, since: datetime) -> pd.DataFrame:
            if symbol in without:
                raise DataError("none", symbol=symbol)
            with sessions() as session:
                bars = bars_in_database(session, symbol, interval, since)
            bars[bars.index >= before] *= later_prices
            return bars

        return learn(sessions, bars_of, start or Combination(KEY, {}), before=before, horizon=2)

    return of_ledger


@pytest.fixture(scope="module")
def known(learnt: Learn) -> Combination:
    return learnt()


def forecast(symbol: str = "AAPL", revision: str = KEY[1]) -> Forecast:
    """Return the newest forecast of the ledger, as if it had just been made."""
    rows = [row for row in PAST.forecasts(symbol) if row["as_of"] == LAST]
    bars = tuple(
        ForecastBar(
            step=row["horizon_days"],
            target_date=row["target_date"],
            open=row["predicted_open"],
            high=row["predicted_high"],
            low=row["predicted_low"],
            close=row["predicted_close"],
            volume=row["predicted_volume"],
            close_quantiles={p: row["close_quantiles"][f"{p:g}"] for p in QUANTILE_LEVELS},
            prob_up=row["prob_up"],
        )
        for row in rows
    )
    return Forecast(
        symbol=symbol,
        interval="1d",
        model_name=KEY[0],
        model_revision=revision,
        as_of=LAST,
        made_at=LAST + timedelta(hours=23),
        last_close=rows[0]["last_close"],
        samples=20,
        seed=None,
        bars=bars,
    )


def bars(symbol: str = "AAPL") -> pd.DataFrame:
    frame = pd.DataFrame(PAST.candles(symbol)).set_index("timestamp")
    return frame.drop(columns=["symbol", "interval"])


def test_there_is_a_pool_for_each_class_and_step_and_for_all_classes(known: Combination) -> None:
    assert set(known.pools) == {
        (kind, step) for kind in ("equity", "crypto", ALL_CLASSES) for step in (1, 2)
    }
    sessions = {state.sessions for (kind, _), state in known.pools.items() if kind == "equity"}
    assert sessions == {43, 42}  # targets before the newest bar, one and two steps ahead


def test_a_model_with_too_narrow_bands_loses_weight(
    known: Combination,
) -> None:
    assert known.pools["equity", 1].weights[0] < 0.24
    assert all(np.exp(state.log_factors).max() < 1.3 for state in known.pools.values())


@pytest.mark.slow
@settings(max_examples=8, deadline=None)
@given(nights=st.lists(st.integers(0, 60), max_size=3))
def test_missed_and_repeated_nights_give_the_same_state_as_one_pass(
    learnt: Learn, known: Combination, nights: list[int]
) -> None:
    combination = None
    for days in sorted(nights, reverse=True):
        combination = learnt(combination, before=LAST - timedelta(days=days))
    combination = learnt(learnt(combination))
    assert combination.pools.keys() == known.pools.keys()
    for pool, state in known.pools.items():
        found = combination.pools[pool]
        assert found.gains == pytest.approx(state.gains)
        assert found.log_factors == pytest.approx(state.log_factors)
        assert (found.sessions, found.forecasts, found.until) == (
            state.sessions, state.forecasts, state.until,
        )  # fmt: skip


def test_a_clock_set_back_changes_nothing(learnt: Learn, known: Combination) -> None:
    assert learnt(known, before=LAST - timedelta(days=30)) == known


def test_sessions_from_the_newest_bar_on_are_not_learnt(learnt: Learn) -> None:
    before = LAST - timedelta(days=20)
    states = learnt(before=before).pools.values()
    assert all(state.until < np.datetime64(before, "s") for state in states)
    assert learnt(before=before) == learnt(before=before, later_prices=0.5)


def test_a_ticker_without_candles_is_skipped_alone(learnt: Learn) -> None:
    pools = learnt(without=["BTC-USD"]).pools
    assert set(pools) == {(kind, step) for kind in ("equity", ALL_CLASSES) for step in (1, 2)}


def test_stored_weights_are_read_and_a_new_revision_starts_from_its_family(
    tmp_path: Path, known: Combination
) -> None:
    with get_db_session(f"sqlite:///{tmp_path / 'k.db'}") as session:
        assert load_combination(session, KEY) is None
        assert newest_of_family(session, KEY) is None
        for _ in range(2):
            assert store_combination(session, known) == len(known.pools)
        read = load_combination(session, KEY)
        newer = newest_of_family(session, (KEY[0], "r2+anchored", "1d"))
        assert newest_of_family(session, ("other", "r1+anchored", "1d")) is None
    assert read is not None
    assert newer is not None
    assert newer.key[1] == "r2+anchored"
    for pool, state in known.pools.items():
        assert read.pools[pool].gains == state.gains
        assert read.pools[pool].log_factors == pytest.approx(state.log_factors)
        assert replace(read.pools[pool], log_factors=state.log_factors) == state
        assert newer.pools[pool].weights == pytest.approx(state.weights)


def test_a_combined_forecast_keeps_the_models_own_quantiles(
    known: Combination,
) -> None:
    made = forecast()
    served = known.apply(made, bars())
    assert served.calibration.startswith("combined until 2024-05-14, n=")
    assert served.shares is not None
    assert list(served.shares) == list(FORECASTERS)
    assert sum(served.shares.values()) == pytest.approx(1)
    assert served.kronos_share == served.shares["kronos"] < 0.24
    for before, after in zip(made.bars, served.bars, strict=True):
        assert after.raw == before
        assert (after.open, after.high, after.low, after.close) == (
            before.open, before.high, before.low, before.close,
        )  # fmt: skip
        prices = list(after.close_quantiles.values())
        assert prices == sorted(prices)
        assert prices[17] - prices[1] > 1.3 * (
            before.close_quantiles[0.9] - before.close_quantiles[0.1]
        )
        assert after.prob_up == prob_above(after.close_quantiles, made.last_close)
    assert known.apply(served, bars()) == served
    assert served.uncombined() == made


@pytest.mark.parametrize(
    "changed",
    [
        lambda known, made: (known, made, bars().tail(20)),
        lambda known, made: (known, replace(made, as_of=datetime(2024, 5, 14)), bars()),
        lambda known, made: (Combination(KEY, {}), made, bars()),
        lambda known, made: (_short(known), made, bars()),
        lambda known, made: (known, made, bars() * 0 + 100),
        lambda known, made: (
            Combination((KEY[0], "r1", "1d"), known.pools), forecast(revision="r1"), bars(),
        ),
    ],
    ids=["20 bars", "later state", "nothing known", "little record", "flat", "not anchored"],
)  # fmt: skip
def test_a_forecast_that_cannot_be_combined_is_unchanged(
    known: Combination, changed: Callable[..., Any]
) -> None:
    combination, made, candles = changed(known, forecast())
    assert combination.apply(made, candles) == made


def _short(known: Combination) -> Combination:
    return Combination(
        KEY, {pool: replace(weights, sessions=29) for pool, weights in known.pools.items()}
    )


def test_the_combination_of_another_model_is_refused(known: Combination) -> None:
    with pytest.raises(ValueError, match=r"the combination of .* does not apply to"):
        known.apply(replace(forecast(), model_name="other"), bars())


def test_a_ticker_with_few_bars_or_only_closes_has_no_range_walk(
    known: Combination,
) -> None:
    served = known.apply(forecast(), bars()[["close"]].tail(45))
    assert served.shares is not None
    assert served.shares["range walk"] == 0
    assert sum(served.shares.values()) == pytest.approx(1)


def test_both_tables_have_the_served_quantiles_and_the_ledger_also_the_raw_ones(
    database: str, known: Combination
) -> None:
    served = known.apply(replace(forecast("AAPL"), bars_hash="h"), bars())
    with get_db_session(database) as session:
        store_forecasts(session, [served])
    with get_db_session(database) as session:
        read = latest_stored(session, "AAPL", interval="1d", horizon=2, as_of=LAST)
        row = session.scalars(
            select(KronosForecast).where(KronosForecast.bars_hash == "h").limit(1)
        ).one()
        latest = session.scalars(select(KronosPrediction).limit(1)).one()
        assert row.combined_quantiles is not None
        assert row.calibrated_quantiles is None
        assert latest.close_p10 == row.combined_quantiles["0.1"] < row.close_quantiles["0.1"]
        assert latest.shares == row.shares == served.shares
        assert latest.predicted_close == served.bars[0].close
    assert read is not None
    assert read.bars == served.bars
    assert read.uncombined().bars == forecast().bars


def test_calibrate_learns_the_weights_from_the_whole_ledger(
    database: str, known: Combination, tmp_path: Path
) -> None:
    for symbol in PAST.symbols:
        bars(symbol).to_csv(tmp_path / f"{symbol}.csv", index_label="date")
    found = recalibrate(database, Settings(), source=f"csv:{tmp_path}", record=None, dry_run=True)
    [combination] = found.combinations
    assert (combination.key, found.weights) == (KEY, 0)
    assert combination.pools.keys() == known.pools.keys()
    for pool, state in known.pools.items():
        assert combination.pools[pool].gains == pytest.approx(state.gains)
        assert combination.pools[pool].until == state.until
    output = StringIO()
    show_calibration(found, Console(file=output, width=120))
    [head] = [line for line in output.getvalue().splitlines() if ": the shares" in line]
    assert head == "mini, revision r1+anchored, 1d: the shares"
    document = calibration_document(found)["combinations"]
    [first] = [
        item for item in document[0]["pools"] if (item["asset_class"], item["step"]) == ("*", 1)
    ]
    assert list(first["shares"]) == list(FORECASTERS)
    assert (first["sessions"], first["served"]) == (known.pools["*", 1].sessions, True)


def test_a_model_without_anchored_paths_has_no_weights(sqlite_url: str, tmp_path: Path) -> None:
    replace(PAST, symbols=("AAPL",), revision="r1").store(sqlite_url)
    bars("AAPL").to_csv(tmp_path / "AAPL.csv", index_label="date")
    found = recalibrate(sqlite_url, Settings(), source=f"csv:{tmp_path}", record=None, dry_run=True)
    assert (len(found.fits), found.combinations) == (1, [])


@given(
    parts=st.lists(st.floats(0, 1), min_size=4, max_size=4).filter(lambda parts: sum(parts) > 0.1)
)
def test_weights_in_words_add_up_to_100_with_the_largest_first(parts: list[float]) -> None:
    shares = {name: part / sum(parts) for name, part in zip(FORECASTERS, parts, strict=True)}
    message = describe_shares(shares).split(", ")
    percents = [int(part.split(" % ")[0]) for part in message]
    assert sum(percents) == 100
    assert percents == sorted(percents, reverse=True)
    kronos = next(cent for cent, part in zip(percents, message, strict=True) if "Kronos" in part)
    assert abs(kronos - 100 * shares["kronos"]) < 1


def test_equal_weights_are_described_as_equal() -> None:
    thirds = {"kronos": 0.334, "random walk": 0.333, "ewma walk": 0.2, "range walk": 0.133}
    assert describe_shares(thirds) == "34 % Kronos, 33 % volatility model, 33 % random walk"


def test_a_shard_learns_a_session_only_when_all_candles_are_available(
    sqlite_url: str,
) -> None:
    """Otherwise outcomes of other shards' tickers would be lost."""
    PAST.store(sqlite_url)
    monday = LAST - timedelta(days=2)
    with get_db_session(sqlite_url) as session:
        late = (KronosForecast.symbol == "BTC-USD", KronosForecast.as_of > monday)
        session.execute(delete(KronosForecast).where(*late))
    sessions = partial(get_db_session, sqlite_url)
    served = {}
    with ProgressReporter() as reporter:
        for shard in (["AAPL", "MSFT"], ["BTC-USD"]):
            histories = {symbol: bars(symbol) for symbol in shard}
            night = NightlyPostprocessing(histories, sessions, reporter, Timeouts())
            served |= {item.symbol: item for item in night.apply([*map(forecast, shard)])}
    assert served["AAPL"].calibration.startswith("combined until 2024-05-10, n=")
    assert served["BTC-USD"].calibration.startswith("combined until 2024-05-14, n=")


def test_a_night_learns_the_same_as_a_recomputation_from_longer_candles(sqlite_url: str) -> None:
    past = replace(PAST, sessions=8, bars=590)
    past.store(sqlite_url)
    sessions = partial(get_db_session, sqlite_url)
    candles = {
        symbol: pd.DataFrame(past.candles(symbol)).set_index("timestamp") for symbol in past.symbols
    }
    histories = {symbol: frame.tail(500) for symbol, frame in candles.items()}
    with ProgressReporter() as reporter:
        args = histories, sessions, reporter, Timeouts()
        NightlyPostprocessing(*args, fetched=candles.__getitem__).apply([forecast()])

    def bars_of(symbol: str, interval: str, since: datetime) -> pd.DataFrame:
        return candles[symbol]

    afresh = learn(sessions, bars_of, Combination(KEY, {}), before=LAST, horizon=2)
    with sessions() as session:
        found = load_combination(session, KEY)
    assert found is not None
    assert found.pools.keys() == afresh.pools.keys()
    for pool, state in found.pools.items():
        assert state.gains == afresh.pools[pool].gains


@pytest.mark.parametrize(
    ("lagging", "first"),
    [
        (["2024-05-08"] * 2, "2024-05-15"),  # two of twenty delay nothing
        (["2024-05-08"] * 3, "2024-05-11"),  # three delay it, for four days
        (["2024-05-14"] * 8, "2024-05-14"),  # of another shard that runs later
        (["2024-05-13"] * 2 + ["2024-05-14"] * 6, "2024-05-14"),
    ],
)
def test_a_few_failed_tickers_do_not_delay_learning(lagging: list[str], first: str) -> None:
    newest = ["2024-05-15"] * (20 - len(lagging)) + lagging
    found = first_without_candles([datetime.fromisoformat(day) for day in newest])
    assert found == datetime.fromisoformat(first)


# what is stored ---------------------------------------------------------------------------


def damaged(**columns: Any) -> Callable[[Session], Any]:
    """Damage these columns of one pool's row."""
    table = KronosCombination
    at = (table.asset_class == "equity", table.step == 1)
    return lambda session: session.execute(update(table).where(*at).values(**columns))


def as_text(column: str, value: str) -> Callable[[Session], Any]:
    return lambda session: session.execute(
        text(f"UPDATE kronos_combinations SET {column} = :value WHERE step = 1"), {"value": value}
    )


@pytest.mark.parametrize(
    "damage",
    [
        damaged(gains={}),
        damaged(gains=[]),
        damaged(gains={"kronos": float("nan")}),
        damaged(gains={"kronos": "much"}),
        damaged(gains={"kronos": float("inf"), "random walk": 0.0}),
        damaged(band_factors={}),
        damaged(band_factors={str(band): 0.0 for band in BANDS}),
        damaged(band_factors={str(band): 1e9 for band in BANDS}),
        damaged(band_factors={str(band): None for band in BANDS}),
        damaged(median_size=-1.0),
        damaged(median_agreement=float("inf")),
        damaged(sessions=0),
        damaged(n=0),
        as_text("gains", ""),
        as_text("gains", "no json"),
        as_text("median_size", "much"),
        as_text("until", "yesterday"),
    ],
    ids=range(17),
)
def test_a_damaged_row_is_reported_and_the_night_learns_everything_again(
    sqlite_url: str,
    known: Combination,
    damage: Callable[[Session], Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    with get_db_session(sqlite_url) as session:
        store_combination(session, known)
        stale = replace(known.pools["crypto", 1], sessions=99, forecasts=99)
        store_combination(session, Combination(KEY, {**known.pools, ("fx", 7): stale}))
        damage(session)
    with get_db_session(sqlite_url) as session:
        assert load_combination(session, KEY, whole=True) is None
        assert "kronos_combinations: a row of mini r1+anchored is damaged" in caplog.text
        usable = load_combination(session, KEY)
        assert usable is not None
        assert ("equity", 1) not in usable.pools
        assert newest_of_family(session, KEY) is None
    with get_db_session(sqlite_url) as session:
        store_combination(session, known)  # as if learnt without a state
        read = load_combination(session, KEY)
    assert read is not None
    assert read.pools.keys() == known.pools.keys()


def test_anchored_and_unanchored_revisions_are_separate_families(
    sqlite_url: str, known: Combination
) -> None:
    with get_db_session(sqlite_url) as session:
        store_combination(session, Combination((KEY[0], "r1", "1d"), known.pools))
        assert newest_of_family(session, (KEY[0], "r2+anchored", "1d")) is None
        assert newest_of_family(session, (KEY[0], "r2", "1d")) is not None
        store_combination(session, known)
        assert newest_of_family(session, (KEY[0], "r2+anchored", "1d")) is not None


def test_without_the_combination_table_forecasts_stay_calibrated(
    sqlite_url: str, known: Combination
) -> None:
    """A database of an older version lacks the table until the next run of the job upgrades it."""
    factors = Factors((2.0,) * 9, n=480, until=LAST - timedelta(days=1))
    with get_db_session(sqlite_url) as session:
        store(session, Calibration(KEY, {("equity", 0): factors}))
        session.execute(text("DROP TABLE kronos_combinations"))
    served = StoredPostprocessing(partial(get_db_session, sqlite_url)).apply(forecast(), bars())
    assert served.calibration == "conformal until 2024-05-14, n=480"


def test_a_pool_without_forecasts_does_not_force_full_reads(
    known: Combination, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such a pool remains after a horizon was shortened, or a class lost its last ticker."""
    asked: list[Any] = []

    def nothing(*args: Any, targets: Any, **options: Any) -> Iterator[Any]:
        asked.append(targets)
        return iter(())

    monkeypatch.setattr("tradingbot.postprocessing.combination_learning.resolve_outcomes", nothing)
    ended = replace(known.pools["crypto", 1], until=np.datetime64("2023-06-01", "s"))
    start = Combination(KEY, {**known.pools, ("crypto", 1): ended})
    assert learn(sessions_of_none, bars_of_none, start, before=LAST, horizon=2) == start
    [(after, before)] = asked
    assert before == LAST
    assert after == LAST - timedelta(days=15)  # 14 before the newest session


def sessions_of_none() -> Any:
    raise AssertionError


def bars_of_none(symbol: str, interval: str, since: datetime) -> Any:
    raise AssertionError
