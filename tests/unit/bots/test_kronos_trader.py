"""KronosTraderBot: which forecasts it uses, and when their uncertainty permits a trade."""

import json
import os
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import ROOT, commands
from tests.support.market import Market, flat_forecast
from tradingbot.bots.kronos_trader import KronosTraderBot
from tradingbot.bots.universe import active_symbols
from tradingbot.data.service import DataService
from tradingbot.errors import ConfigError
from tradingbot.persistence.engine import get_db_session
from tradingbot.persistence.forecasts import store_forecasts
from tradingbot.persistence.models import BotRow, KronosScore

if TYPE_CHECKING:
    import subprocess

FRIDAY = datetime(2024, 5, 17)
RISING = {"last_close": 100.0, "close": 103.0, "low": 99.0, "high": 107.0, "prob_up": 0.8}
FALLING = {"last_close": 100.0, "close": 97.0, "low": 93.0, "high": 101.0, "prob_up": 0.2}


@pytest.fixture
def market(tmp_path: Path) -> Market:
    market = Market(tmp_path / "candles", today=FRIDAY)
    market.write("AAPL", [98.0, 99.0, 101.0, 100.0])
    return market


def store(url: str, *forecasts: Any) -> None:
    with get_db_session(url) as session:
        store_forecasts(session, forecasts)


def decide(market: Market, url: str, **options: Any) -> tuple[int, str]:
    bot = market.bot(KronosTraderBot, url, **{"tickers": ["AAPL"], **options})
    [decision] = bot.run().decisions
    return decision.answer, decision.reason


@pytest.mark.parametrize(
    ("forecast", "answer"),
    [
        (RISING, 1),
        (FALLING, -1),
        ({**RISING, "close": 100.4}, 0),  # the move is too small
        ({**RISING, "prob_up": 0.5}, 0),  # a few extreme paths cause most of the move
        ({**RISING, "low": 92.0}, 0),  # the downside is larger than the upside
        ({**FALLING, "close": 99.6}, 0),
        ({**FALLING, "prob_up": 0.5}, 0),
        ({**FALLING, "high": 108.0}, 0),
    ],
)
def test_the_bot_trades_if_the_forecast_move_is_large_and_the_uncertainty_small(
    market: Market, database: str, forecast: dict[str, float], answer: int
) -> None:
    store(database, flat_forecast("AAPL", FRIDAY, **forecast))
    found, reason = decide(market, database)
    assert found == answer
    assert reason == (
        f"{forecast['close'] / 100 - 1:+.1%} expected by Fri 2024-05-24, "
        f"P(up) {forecast['prob_up']:.0%}, "
        f"10-90 % range {forecast['low']:.2f} to {forecast['high']:.2f}"
    )


def test_the_thresholds_are_parameters(market: Market, sqlite_url: str) -> None:
    store(sqlite_url, flat_forecast("AAPL", FRIDAY, **RISING))
    assert decide(market, sqlite_url, threshold=0.04)[0] == 0
    assert decide(market, sqlite_url, min_prob=0.9)[0] == 0
    assert decide(market, sqlite_url, horizon=2)[1].startswith("+3.0% expected by Tue 2024-05-21")


@pytest.mark.parametrize(
    "option",
    [
        {"threshold": -0.01}, {"threshold": float("nan")}, {"threshold": "1%"},
        {"min_prob": 0.3}, {"min_prob": 55}, {"min_prob": None},
        {"horizon": 0}, {"horizon": -1}, {"horizon": 2.5}, {"horizon": 257},
    ],
)  # fmt: skip
def test_contradictory_thresholds_are_settings_errors(option: Any) -> None:
    [(name, value)] = option.items()
    with pytest.raises(ConfigError, match=f"^{name}={value!r}: expected a"):
        KronosTraderBot("b", "AAPL", **option)


def test_a_forecast_from_friday_is_used_until_mondays_close(market: Market, database: str) -> None:
    store(database, flat_forecast("AAPL", FRIDAY, **RISING))
    # on Saturday, and on Monday a minute before the close
    for now in ("2024-05-18 12:00", "2024-05-20 19:59"):
        data = market.data(datetime.fromisoformat(now))
        assert decide(market, database, data=data, name=f"bot of {now}")[0] == 1


def test_a_forecast_of_a_week_ago_is_ignored(market: Market, database: str) -> None:
    store(database, flat_forecast("AAPL", FRIDAY - timedelta(days=7), **RISING))
    assert decide(market, database) == (
        0, "its newest forecast, of Fri 2024-05-10, is too old",
    )  # fmt: skip


def test_a_forecast_of_the_future_is_ignored(market: Market, sqlite_url: str) -> None:
    store(sqlite_url, flat_forecast("AAPL", FRIDAY + timedelta(days=3), **RISING))
    assert decide(market, sqlite_url)[1] == "no stored forecast; kronosbot makes them"


def test_a_forecast_that_is_too_short_is_ignored(market: Market, sqlite_url: str) -> None:
    store(sqlite_url, flat_forecast("AAPL", FRIDAY, horizon=2, **RISING))
    assert decide(market, sqlite_url) == (0, "its forecast does not reach 5 bars ahead")


def test_only_the_newest_model_counts(market: Market, database: str) -> None:
    market.write("IBM", [52.0, 51.0, 50.0])
    early, late = datetime(2024, 5, 17, 22), datetime(2024, 5, 17, 23)
    half = {name: value / 2 if name != "prob_up" else value for name, value in RISING.items()}
    store(
        database,
        flat_forecast("AAPL", FRIDAY, model="old", made_at=early, **RISING),
        flat_forecast("AAPL", FRIDAY, model="new", made_at=late, **FALLING),
        flat_forecast("IBM", FRIDAY, model="old", made_at=early, **half),
    )
    options: dict[str, Any] = {"tickers": ["AAPL", "IBM"]}
    done = market.bot(KronosTraderBot, database, **options).run()
    assert [(d.symbol, d.answer) for d in done.decisions] == [("AAPL", -1), ("IBM", 0)]
    assert done.decisions[1].reason == "no stored forecast; kronosbot makes them"
    other = market.bot(KronosTraderBot, database, name="other", model="old", **options).run()
    assert [(d.symbol, d.answer) for d in other.decisions] == [("AAPL", 1), ("IBM", 1)]


# the command ------------------------------------------------------------------------------


def command(database: str, *arguments: str, **environ: str) -> "subprocess.CompletedProcess[str]":
    env = {**os.environ, "DATABASE_URL": database, **environ}
    return commands.run("tradingbot.kronostraderbot", *arguments, cwd=ROOT, env=env)


@pytest.mark.integration
def test_the_command_prints_decisions_reasons_and_the_portfolio(database: str) -> None:
    data = DataService("sample")
    as_of = data.history("AAPL").index[-1].to_pydatetime()
    rising = {"last_close": 446.06, "close": 460.0, "low": 440.0, "high": 480.0, "prob_up": 0.9}
    store(database, flat_forecast("AAPL", as_of, **rising))
    wary = json.loads(
        command(database, "--source", "sample", "--threshold", "0.04", "--dry-run", "--json").stdout
    )
    assert wary["decisions"]["AAPL"]["decision"] == 0
    done = command(database, "--source", "sample")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "kronostraderbot-sample",
        "",
        "Ticker  Bar                 Close  Decision",
        "AAPL    Thu 2013-02-21     446.06  buy: +3.1% expected by Thu 2013-02-28, P(up) 90%, "
        "10-90 % range 440.00 to 480.00",
        "GOOG    Thu 2013-02-21     795.53  keep: no stored forecast; kronosbot makes them",
        "IBM     Thu 2013-02-21     198.33  keep: no stored forecast; kronosbot makes them",
        "MSFT    Thu 2013-02-21      27.49  keep: no stored forecast; kronosbot makes them",
        "",
        "Trades     none",
        "Orders     buy AAPL at its next open",
        "Portfolio  USD 10,000.00",
    ]
    with get_db_session(database) as session:
        assert active_symbols(session) == ["AAPL", "GOOG", "IBM", "MSFT"]
        assert session.get(BotRow, "kronostraderbot-sample") is not None


@pytest.mark.integration
def test_the_command_has_the_options_of_every_bot(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'none.db'}"
    tried = command(url, "--source", "sample", "--symbols", "AAPL", "--dry-run", "--json")
    assert (tried.returncode, tried.stderr) == (0, "")
    assert json.loads(tried.stdout)["dry_run"] is True
    days = ("--backtest", "2012-01-03", "2012-12-31")
    replayed = command(url, "--source", "sample", "--symbols", "AAPL", *days)
    assert replayed.stdout.startswith("2012-01-03 to 2012-12-31: 0 trades"), replayed.stderr
    assert list(tmp_path.iterdir()) == []
    assert command(url, "--dryrun").returncode == 2
    refused = command(url, "--source", "sample", "--threshold", "7")
    assert (refused.returncode, refused.stderr) == (
        2, "Error: threshold=7.0: expected a number from 0 to 1\n"
    )  # fmt: skip
    output = command(url, "--help").stdout
    assert all(f"--{name}" in output for name in ("backtest", "threshold", "min-prob", "min-skill"))


@pytest.mark.integration
@pytest.mark.parametrize(
    ("arguments", "environ", "code", "says"),
    [
        (["--source", "nonsense"], {}, 2, "Error: --source='nonsense': expected yahoo"),
        (["--symbols", ","], {}, 2, "Error: --symbols=',': expected tickers"),
        (["--source", "sample"], {"KRONOS_SLIPPAGE_BPS": "x"}, 2, "KRONOS_SLIPPAGE_BPS='x'"),
        (["--source", "sample", "--symbols", "ZZZZ"], {}, 1, "Error: ZZZZ: the sample has"),
        (["--source", "sample", "--database-url", "mysql://x/y"], {}, 2, "not supported"),
        (
            ["--source", "sample", "--database-url", "postgresql://me@127.0.0.1:9/kronos"],
            {},
            1,
            "is the server up",
        ),
    ],
)
def test_the_command_reports_a_mistake_in_one_line(
    sqlite_url: str, arguments: list[str], environ: dict[str, str], code: int, says: str
) -> None:
    done = command(sqlite_url, *arguments, **environ)
    assert done.returncode == code
    assert says in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_min_skill_uses_the_served_forecast_and_its_record(market: Market, sqlite_url: str) -> None:
    # Kronos forecasts +3 %; calibration reduced it to +0.4 %, with a band around the last close
    rising = flat_forecast("AAPL", FRIDAY, **RISING)
    served = {0.1: 98.0, 0.5: 100.4, 0.9: 104.0}
    bars = tuple(replace(bar, close_quantiles=served, prob_up=0.6, raw=bar) for bar in rising.bars)
    shares = {"kronos": 0.1, "random walk": 0.2, "ewma walk": 0.3, "range walk": 0.4}
    combined = replace(
        rising, bars=bars, shares=shares, calibration="combined until 2024-05-16, n=9"
    )
    store(sqlite_url, combined)
    assert decide(market, sqlite_url)[0] == 1  # the uncalibrated mean of Kronos
    found, reason = decide(market, sqlite_url, min_skill=0.0)
    assert found == 0
    assert reason.startswith("+0.4% expected by Fri 2024-05-24")
    assert reason.endswith("10-90 % range 98.00 to 104.00")
    found, reason = decide(market, sqlite_url, min_skill=0.0, threshold=0.001)
    assert found == 0
    assert reason.endswith("holding: no skill score yet (run `kronosbot score`)")
    day = {"n": 300, "sessions": 60, "scored_at": FRIDAY, "first_target": FRIDAY}
    key = {"model_name": "some-model", "model_revision": "", "interval": "1d", "symbol": "AAPL"}
    with get_db_session(sqlite_url) as session:
        for forecast, skill in (("served", 0.02), ("raw", -0.2), ("combined", 0.03)):
            session.add(
                KronosScore(
                    **key, **day, last_target=FRIDAY, step=0, last_sessions=0, forecast=forecast,
                    crps_skill=skill, skill_low=skill / 2, skill_high=0.3,
                )
            )  # fmt: skip
    assert decide(market, sqlite_url, min_skill=0.0, threshold=0.001)[0] == 1
    _, reason = decide(market, sqlite_url, min_skill=0.015, threshold=0.001)
    assert reason.endswith("but only +0.01 is certain (AAPL, 60 sessions so far)")
