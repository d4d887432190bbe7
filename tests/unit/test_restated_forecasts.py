"""Every reader gets a stored forecast in prices of today's candles."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.support.market import Market, flat_forecast
from tradingbot.ai.bot_tools import BotReader
from tradingbot.ai.forecast_tool import kronos_forecast
from tradingbot.bots.bot import Bot
from tradingbot.bots.kronos_trader import KronosTraderBot
from tradingbot.client import KronosClient
from tradingbot.forecast import Forecast
from tradingbot.path_events.event_probabilities import EventChance
from tradingbot.persistence.candles import store_candles
from tradingbot.persistence.engine import get_db_session
from tradingbot.persistence.events import newest_chances, with_stored_events
from tradingbot.persistence.forecast_queries import newest_ahead, newest_until
from tradingbot.persistence.forecasts import latest_stored, store_forecasts
from tradingbot.persistence.report_queries import newest_forecast_rows
from tradingbot.settings import Settings

TODAY = datetime(2024, 5, 15)
THEN = 200.0  # the close from which the forecast was made
RATIOS = [10.0, 1.1, 1.2, 1.25, 4 / 3, 1 / 25, 1.043]  # new shares for an old one; a spin-off
CHANGES = {"close": 1.03, "low": 0.99, "high": 1.07}


def forecast(as_of: datetime = TODAY) -> Forecast:
    """Return a calibrated forecast; its raw bands are narrower."""
    numbers = {name: THEN * change for name, change in CHANGES.items()}
    made = flat_forecast("AAPL", as_of, last_close=THEN, prob_up=0.8, **numbers)
    levels = {round(0.05 * i, 2): THEN * (0.99 + 0.004 * i) for i in range(1, 20)}

    def calibrated(bar: Any) -> Any:
        raw = replace(bar, volume=5000.0, close_quantiles=levels)
        wider = {level: THEN + 2 * (price - THEN) for level, price in levels.items()}
        return replace(raw, close_quantiles=wider, raw=raw)

    return replace(
        made, bars=tuple(map(calibrated, made.bars)), calibration="conformal until 2024-05-14, n=99"
    )


@pytest.fixture
def market(tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> Market:
    """A market with a stored forecast of AAPL and no candles; the tests write them."""
    market = Market(tmp_path / "candles", today=TODAY)
    monkeypatch.setenv("KRONOS_DATA_SOURCE", market.source)
    monkeypatch.setenv("DATABASE_URL", sqlite_url)
    with get_db_session(sqlite_url) as session:
        store_forecasts(session, [forecast()])
    return market


def of_the_client(market: Market, url: str) -> float:
    client = KronosClient("http://127.0.0.1:9", sessions=partial(get_db_session, url))
    frame = client.predict("AAPL", horizon=5)
    assert frame is not None
    close = frame.attrs["last_close"]
    assert frame["close_p10"][0] / close == pytest.approx(1 + 2 * (0.998 - 1))
    assert frame["close_p90"][4] / close == pytest.approx(1 + 2 * (1.062 - 1))
    assert frame["volume"][0] * close == pytest.approx(5000 * THEN)
    return float(frame["close"][0])


def in_words(text: str) -> float:
    """Parse the expected close from 'Thu 2024-05-16: 20.60 (+3.0%), 19.92 to 22.48, 80%'."""
    [line] = [line for line in text.splitlines() if line.startswith("Thu 2024-05-16: ")]
    assert "(+3.0%)" in line
    return float(line.split()[2])


def of_the_tool(market: Market, url: str) -> float:
    return in_words(kronos_forecast.invoke({"symbol": "AAPL", "horizon": 5}))


def of_the_bots_tool(market: Market, url: str) -> float:
    return in_words(BotReader(market.bot(Bot, url, symbol="AAPL")).stored_forecasts("AAPL")[0])


class RecordsForecasts(Bot):
    """Record the results of `stored_forecast`."""

    def decisionFunction(self, row: Any) -> int:
        found = self.stored_forecast(5)
        if found is not None:
            self.params["found"].append(found)
        return 0


def _of_a_bot(market: Market, url: str, act: Callable[[RecordsForecasts], Any]) -> float:
    found: list[Forecast] = []
    act(market.bot(RecordsForecasts, url, symbol="AAPL", found=found))
    [outcome] = found
    raw = outcome.bars[0].raw
    assert raw is not None
    assert raw.close_quantiles[0.5] == pytest.approx(outcome.last_close * 1.03)
    assert raw.close == outcome.bars[0].close
    return outcome.bars[0].close


def of_a_round(market: Market, url: str) -> float:
    return _of_a_bot(market, url, lambda bot: bot.run())


def of_a_backtest(market: Market, url: str) -> float:
    return _of_a_bot(market, url, lambda bot: bot.backtest())


READERS = [of_the_client, of_the_tool, of_the_bots_tool, of_a_round, of_a_backtest]


@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize("reader", READERS)
def test_after_a_split_every_reader_returns_prices_in_the_new_scale(
    market: Market, sqlite_url: str, reader: Callable[[Market, str], float], ratio: float
) -> None:
    market.write("AAPL", [close / ratio for close in (190.0, 205.0, THEN)])
    expected = 1.03 * THEN / ratio
    assert reader(market, sqlite_url) == pytest.approx(expected, abs=0.005)


@pytest.mark.parametrize("reader", READERS)
def test_without_a_split_nothing_changes(
    market: Market, sqlite_url: str, reader: Callable[[Market, str], float]
) -> None:
    market.write("AAPL", [190.0, 205.0, THEN])
    assert reader(market, sqlite_url) == pytest.approx(1.03 * THEN)


def test_stored_candles_give_the_scale_if_there_are_no_others(
    market: Market, sqlite_url: str
) -> None:
    with get_db_session(sqlite_url) as session:
        found = newest_ahead(session, "AAPL", 5, TODAY)
        assert found == latest_stored(session, "AAPL", interval="1d", horizon=5, as_of=TODAY)
        assert found is not None
        assert found == replace(forecast(), bars=found.bars), "no candles, no scale"
        store_candles(session, "AAPL", "1d", [(TODAY, (20, 20, 20, 20.0, 1000))])
        restated = newest_ahead(session, "AAPL", 5, TODAY)
    assert restated is not None
    assert restated.last_close == pytest.approx(20.0)
    assert restated.bars[0].close == pytest.approx(20.6)
    assert restated.bars[0].prob_up == found.bars[0].prob_up


def test_the_trader_trades_on_forecasts_from_before_a_split(
    tmp_path: Path, sqlite_url: str
) -> None:
    market = Market(tmp_path / "candles", today=TODAY)
    market.write("AAPL", [10.0] * 6 + [10.9, 10.9])  # a 10:1 split since the forecast
    bars = market.data().history("AAPL")
    day = bars.index[-4].to_pydatetime()
    rising = flat_forecast("AAPL", day, last_close=100, close=109, low=101, high=118, prob_up=0.95)
    with get_db_session(sqlite_url) as session:
        store_forecasts(session, [rising])
    bot = market.bot(KronosTraderBot, sqlite_url, tickers=["AAPL"], settings=Settings())
    result = bot.backtest(bars)
    assert list(result.trades["price"]) == [10.0]
    assert result.measures.total_return == pytest.approx(1.09 / 1.0005 - 1)


EVENTS = ("touch +2%", "close above 206", "reach 210 before -2%", "drawdown above 5%")


@pytest.mark.parametrize("ratio", [1.0, 1.0003, *RATIOS])
def test_price_events_are_reported_in_the_scale_of_their_definition(
    market: Market, sqlite_url: str, ratio: float
) -> None:
    odds = tuple([0.25] * 5)
    chances = tuple(EventChance(event, odds, odds, odds) for event in EVENTS)
    with get_db_session(sqlite_url) as session:
        store_forecasts(session, [replace(forecast(), events=chances)])
        closes = {"AAPL": THEN / ratio}
        rows = newest_chances(
            session, model="some-model", interval="1d", closes=closes, as_of=TODAY
        )
        of_a_report = {row.event for row in rows}
        [found] = with_stored_events(session, [forecast().restated(THEN / ratio)])
    expected = {e for e in EVENTS if abs(ratio - 1) < 1e-3 or ("20" not in e and "21" not in e)}
    assert of_a_report == expected
    assert {chance.event for chance in found.events} == expected


VINTAGES = {  # the last one stored covers fewer days
    "other candles": {"bars_hash": "b"},
    "another revision": {"model_revision": "b"},
}


@pytest.mark.parametrize("change", VINTAGES)
def test_days_of_two_vintages_are_never_mixed_into_one_forecast(
    sqlite_url: str, change: str
) -> None:
    old = replace(forecast(), bars_hash="a", model_revision="a")
    later = old.made_at + timedelta(hours=1)
    new = replace(
        old.restated(THEN / 10), made_at=later, bars=old.restated(THEN / 10).bars[:3],
        **VINTAGES[change],  # type: ignore[arg-type]
    )  # fmt: skip
    with get_db_session(sqlite_url) as session:
        store_forecasts(session, [old])
        store_forecasts(session, [new])
        found = {
            "ahead": newest_ahead(session, "AAPL", 5, TODAY),
            "until": newest_until(session, "AAPL", TODAY),
            **{
                f"{days}, {believed}": latest_stored(
                    session, "AAPL", interval="1d", horizon=days, as_of=TODAY, made_until=believed
                )
                for days in (2, 5)
                for believed in (None, later + timedelta(hours=1))
            },
        }
        rows = newest_forecast_rows(session, model="some-model", interval="1d")["AAPL"]
    for name, stored in found.items():
        assert stored is not None, name
        assert {round(bar.close / stored.last_close, 9) for bar in stored.bars} == {1.03}, name
    assert {round(row.predicted_close / row.last_close, 9) for row in rows} == {1.03}
    assert len({row.last_close for row in rows}) == 1
