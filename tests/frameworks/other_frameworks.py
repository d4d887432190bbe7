"""The example for freqtrade, with the real package: `make frameworks`.

freqtrade is installed into a separate environment below .cache (hundreds of MB). It asks its
exchange for the list of markets; the test contains that answer.
"""

import json
import os
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pandas as pd
import pytest

from tests.support import ROOT
from tests.support.market import flat_forecast
from tradingbot.persistence.engine import get_db_session
from tradingbot.persistence.forecasts import store_forecasts

pytestmark = pytest.mark.integration

DAYS = pd.date_range("2024-01-01", periods=200, freq="D")
CONFIG = {
    "max_open_trades": 1,
    "stake_currency": "USDT",
    "stake_amount": "unlimited",
    "dry_run": True,
    "dry_run_wallet": 10_000,
    "trading_mode": "spot",
    "exchange": {"name": "binance", "pair_whitelist": ["BTC/USDT"]},
    "pairlists": [{"method": "StaticPairList"}],
    "entry_pricing": {"price_side": "same"},
    "exit_pricing": {"price_side": "same"},
    "dataformat_ohlcv": "json",
}
LAUNCH = """
import sys
import ccxt.async_support

MARKET = {
    "id": "BTCUSDT", "symbol": "BTC/USDT", "base": "BTC", "quote": "USDT", "baseId": "BTC",
    "quoteId": "USDT", "type": "spot", "spot": True, "margin": False, "swap": False,
    "future": False, "option": False, "contract": False, "active": True, "info": {},
    "precision": {"amount": 1e-8, "price": 1e-8},
    "limits": {"amount": {"min": 1e-8}, "price": {"min": 1e-8}, "cost": {"min": 1}},
}

async def markets(self, params={}):
    return [self.safe_market_structure(MARKET)]

async def currencies(self, params={}):
    return {}

ccxt.async_support.binance.fetch_markets = markets
ccxt.async_support.binance.fetch_currencies = currencies
from freqtrade.main import main
main(sys.argv[1:])
"""


def environment() -> Path:
    """Return the interpreter of an environment with freqtrade and this project."""
    folder = ROOT / ".cache" / "freqtrade"
    python = folder / "bin" / "python"
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        subprocess.run([*pip, "freqtrade"], check=True)
    subprocess.run([*pip, f"{ROOT}[sample]"], check=True)
    return python


def test_freqtrade_trades_on_the_stored_forecasts_at_the_next_opens(
    tmp_path: Path,
) -> None:
    python = environment()
    random = np.random.default_rng(3)
    closes = 100 * np.exp(np.cumsum(random.normal(0, 0.02, len(DAYS))))
    opens = np.r_[100, closes[:-1]] * np.exp(random.normal(0, 0.005, len(DAYS)))
    moves = random.choice([0.98, 1.0, 1.02], len(DAYS))
    url = f"sqlite:///{tmp_path / 'kronos.db'}"
    with get_db_session(url) as session:
        store_forecasts(
            session,
            [
                flat_forecast(
                    "BTC-USD", day.to_pydatetime(), last_close=close, close=close * move,
                    low=close * 0.9, high=close * 1.1, prob_up=0.5,
                    made_at=day.to_pydatetime() + timedelta(days=1, minutes=5),
                )
                for day, close, move in zip(DAYS, closes.tolist(), moves, strict=True)
            ],
        )  # fmt: skip
    found = backtested(python, tmp_path, url, opens, closes)
    expected, entered = [], None
    for day, first, move in zip(DAYS[1:], opens[1:], moves[:-1], strict=True):
        if entered is None and move > 1:
            entered = day, first
        elif entered is not None and move < 1:
            expected.append((*entered, day, first))
            entered = None
    assert len(expected) > 20
    assert [row[::2] for row in found] == [row[::2] for row in expected]
    prices = np.array([row[1::2] for row in expected])
    assert np.array([row[1::2] for row in found]) == pytest.approx(prices, rel=1e-9)


def backtested(
    python: Path, folder: Path, url: str, opens: np.ndarray, closes: np.ndarray
) -> list[tuple[datetime, float, datetime, float]]:
    """Return freqtrade's trades: times and prices of entry and exit."""
    user = folder / "user_data"
    for name in ("data/binance", "strategies"):
        (user / name).mkdir(parents=True)
    strategy = (ROOT / "examples" / "freqtrade_strategy.py").read_text()
    (user / "strategies" / "kronos.py").write_text(strategy)
    times = (DAYS - pd.Timestamp(0)) // pd.Timedelta(milliseconds=1)
    # freqtrade does not trade at an open that rounding puts below the low
    highs, lows = np.maximum(opens, closes) * 1.001, np.minimum(opens, closes) * 0.999
    volumes = np.full(len(DAYS), 1000.0)
    rows = zip(times.tolist(), opens, highs, lows, closes, volumes, strict=True)
    (user / "data" / "binance" / "BTC_USDT-1d.json").write_text(json.dumps(list(rows)))
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "launch.py").write_text(LAUNCH)
    command = [
        python, folder / "launch.py", "backtesting", "--config", folder / "config.json",
        "--userdir", user, "--strategy", "KronosStrategy", "--timeframe", "1d",
        "--fee", "0.001", "--export", "trades", "--cache", "none",
    ]  # fmt: skip
    env = {**os.environ, "DATABASE_URL": url}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    [archive] = (user / "backtest_results").glob("*.zip")
    with ZipFile(archive) as results:
        [name] = [name for name in results.namelist() if name == f"{archive.stem}.json"]
        trades = json.loads(results.read(name))["strategy"]["KronosStrategy"]["trades"]
    return [
        (
            pd.Timestamp(trade["open_date"]).tz_localize(None),
            trade["open_rate"],
            pd.Timestamp(trade["close_date"]).tz_localize(None),
            trade["close_rate"],
        )
        for trade in trades
    ]
