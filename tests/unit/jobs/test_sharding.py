"""Each ticker belongs to one shard, the same one on every machine."""

from dataclasses import replace

import pytest

from tradingbot.errors import ConfigError
from tradingbot.jobs.sharding import Shard
from tradingbot.settings import Settings

TICKERS = ["AAPL", "BTC-USD", "EURUSD=X", "GLD", "MSFT", "QQQ", "SPY", "^GSPC", "7203.T", "SAP.DE"]


def test_the_shard_of_a_ticker_never_changes() -> None:
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
def test_every_ticker_is_in_exactly_one_shard(count: int) -> None:
    for ticker in TICKERS:
        assert sum(Shard(index, count).takes(ticker) for index in range(count)) == 1


def test_many_tickers_are_distributed_about_evenly() -> None:
    tickers = [f"T{number:03}" for number in range(400)]
    sizes = [sum(map(Shard(index, 4).takes, tickers)) for index in range(4)]
    assert sum(sizes) == 400
    assert min(sizes) > 70


def test_a_pods_shard_comes_from_the_environment_of_the_indexed_job() -> None:
    pod = Settings(shards=4, completion_index=3)
    assert Shard.of(pod) == Shard(3, 4)
    assert Shard.of(replace(pod, shards=1)) == Shard(0, 1), "no shards, whatever the index"


def test_a_shard_is_displayed_like_its_option() -> None:
    assert Shard.parse("3/4") == Shard(3, 4)
    assert str(Shard(3, 4)) == "3/4"


@pytest.mark.parametrize("text", ["", "1", "2/2", "1/0", "0/1001", "-1/2", "a/b", "1/2/3", "1 / 2"])
def test_an_impossible_shard_is_named_in_the_error(text: str) -> None:
    with pytest.raises(ConfigError, match=r"--shard='.*': expected I/N, part I \(from 0 to N-1\)"):
        Shard.parse(text)


def test_a_missing_or_too_high_shard_index_is_a_settings_error() -> None:
    with pytest.raises(ConfigError, match="KRONOS_SHARDS=4, but the part is not set"):
        Shard.of(Settings(shards=4))
    with pytest.raises(ConfigError, match="JOB_COMPLETION_INDEX=4: expected less than"):
        Shard.of(Settings(shards=4, completion_index=4))
