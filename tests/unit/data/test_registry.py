"""Sources of candles by name; settings and registry list the same names."""

import os
from datetime import datetime
from pathlib import Path

import pandas as pd
import pytest

from tradingbot.bots.universe import active_tickers
from tradingbot.data.service import DataService
from tradingbot.data.sources import registry
from tradingbot.data.sources.registry import open_source, with_absolute_folder
from tradingbot.data.sources.sample import SampleSource
from tradingbot.data.sources.yahoo import YahooSource
from tradingbot.data.stored_candles import Candles
from tradingbot.errors import DataError
from tradingbot.persistence.engine import get_db_session
from tradingbot.settings import SOURCES, Settings, check_source


@pytest.mark.parametrize("name", SOURCES)
def test_each_source_that_the_settings_accept_can_be_opened(name: str, tmp_path: Path) -> None:
    (tmp_path / "AAPL.csv").write_text("date,open,high,low,close\n")
    source = check_source("--source", name.replace("DIR", str(tmp_path)))
    assert open_source(source).symbols() in ([], ["AAPL"], ["AAPL", "GOOG", "IBM", "MSFT"])


def test_a_fifo_a_device_and_a_folder_are_refused_as_candle_files(tmp_path: Path) -> None:
    header = "date,open,high,low,close\n"
    rows = "".join(f"2024-01-{day:02},1,1,1,1\n" for day in range(1, 6))
    (tmp_path / "real.txt").write_text(header + rows)
    (tmp_path / "LINK.csv").symlink_to(tmp_path / "real.txt")
    os.mkfifo(tmp_path / "FIFO.csv")
    (tmp_path / "NULL.csv").symlink_to("/dev/null")
    (tmp_path / "FOLDER.csv").mkdir()
    source = open_source(f"csv:{tmp_path}")
    ever = datetime(1990, 1, 1), datetime(2030, 1, 1)
    assert source.clock(5) < datetime(2024, 1, 7), "the others do not count"
    assert len(source.fetch("LINK", "1d", *ever)) == 5
    for symbol in ("FIFO", "NULL", "FOLDER"):
        with pytest.raises(
            DataError, match=f"{symbol}.csv: cannot be read: it is not a regular file"
        ):
            source.fetch(symbol, "1d", *ever)


def test_the_stored_source_name_has_an_absolute_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert with_absolute_folder("csv:candles") == f"csv:{tmp_path / 'candles'}"
    assert [with_absolute_folder("yahoo"), with_absolute_folder("sample")] == ["yahoo", "sample"]


class Exchange(YahooSource):
    """A new network source."""

    def fetch(self, symbol: str, interval: str, start: datetime, end: datetime) -> pd.DataFrame:
        raise AssertionError("nobody asks it here")


def test_a_new_source_needs_one_registry_line_and_a_name_in_the_settings(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tradingbot.settings.job.SOURCES", (*SOURCES, "exchange"))
    monkeypatch.setitem(registry._OPENERS, "exchange", lambda _, timeouts: Exchange())
    settings = Settings.from_env(
        {"KRONOS_DATA_SOURCE": "exchange", "KRONOS_EXTRA_SYMBOLS": "SPY,GLD"}
    )
    data = DataService(settings.data_source)
    assert active_tickers(settings, data, None) == ["GLD", "SPY"]
    assert data.by_the_wall_clock() is data
    with (
        get_db_session(sqlite_url) as session,
        pytest.raises(DataError, match="the database has none of its candles"),
    ):
        Candles(session, settings.data_source).bars("SPY", "1d")


def test_scoring_reads_bars_after_the_clock_of_a_source() -> None:
    data = DataService(SampleSource())
    assert data.history("AAPL").index[-1] == datetime(2013, 2, 21)
    assert data.by_the_wall_clock().history("AAPL").index[-1] == datetime(2013, 3, 1)
