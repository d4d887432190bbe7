"""Each ticker belongs to one shard, the same one on every machine."""

from dataclasses import replace

import pytest

from tradingbot.errors import ConfigError
from tradingbot.jobs.sharding import Shard
from tradingbot.settings import Settings

TICKERS = ["AAPL", "BTC-USD", "EURUSD=X", "GLD", "MSFT", "QQQ", "SPY", "^GSPC", "7203.T", "SAP.DE"]


def test_the_parts_of_a_ticker_never_change() -> None:
    # a different result would let pods of two versions forecast a ticker twice or not at all
    parts = {
        ticker: next(index for index in range(4) if Shard(index, 4).takes(ticker))
        for ticker in TICKERS
    }
    assert parts == {
        "AAPL": 0, "BTC-USD": 0, "EURUSD=X": 3, "GLD": 3, "MSFT": 3, "QQQ": 2, "SPY": 3,
        "^GSPC": 0, "7203.T": 1, "SAP.DE": 1,
    }  # fmt: skip


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_every_ticker_is_in_one_part(count: int) -> None:
    for ticker in TICKERS:
        assert sum(Shard(index, count).takes(ticker) for index in range(count)) == 1


def test_many_tickers_are_dealt_about_evenly() -> None:
    tickers = [f"T{number:03}" for number in range(400)]
    sizes = [sum(map(Shard(index, 4).takes, tickers)) for index in range(4)]
    assert sum(sizes) == 400
    assert min(sizes) > 70


def test_the_environment_of_an_indexed_job_says_which_part_a_pod_has() -> None:
    pod = Settings(shards=4, completion_index=3)
    assert Shard.of(pod) == Shard(3, 4)
    assert Shard.of(replace(pod, shards=1)) == Shard(0, 1), "no shards, whatever the index"


def test_a_part_is_written_as_the_option_is() -> None:
    assert Shard.parse("3/4") == Shard(3, 4)
    assert str(Shard(3, 4)) == "3/4"


@pytest.mark.parametrize("text", ["", "1", "2/2", "1/0", "0/1001", "-1/2", "a/b", "1/2/3", "1 / 2"])
def test_a_part_that_cannot_be_is_named(text: str) -> None:
    with pytest.raises(ConfigError, match=r"--shard='.*': expected I/N, part I \(from 0 to N-1\)"):
        Shard.parse(text)


def test_shards_without_an_index_or_with_one_too_high_are_a_wrong_setting() -> None:
    with pytest.raises(ConfigError, match="KRONOS_SHARDS=4, but the part is not set"):
        Shard.of(Settings(shards=4))
    with pytest.raises(ConfigError, match="JOB_COMPLETION_INDEX=4: expected less than"):
        Shard.of(Settings(shards=4, completion_index=4))
