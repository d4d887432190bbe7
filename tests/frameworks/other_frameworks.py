"""The examples for freqtrade and vectorbt, with the real packages: `make frameworks`.

Each is installed into a separate environment below .cache (hundreds of MB). freqtrade asks its
exchange for the list of markets; the test contains that answer.
"""

import json
import os
import subprocess
import sys
import sysconfig
from datetime import datetime, timedelta
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pandas as pd
import pytest

from tests.support import ROOT
from tests.support.market import flat_forecast, rises_and_falls
from tradingbot.persistence.engine import get_db_session
from tradingbot.persistence.forecasts import store_forecasts

pytestmark = pytest.mark.integration

VECTORBT = "1.2.0"

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


def python_with_freqtrade() -> Path:
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
    python = python_with_freqtrade()
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


def python_with_vectorbt() -> Path:
    """Return the interpreter of an environment with vectorbt and the packages of this one.

    The first call on a machine installs 340 MB below .cache.
    """
    folder = ROOT / ".cache" / f"vectorbt-{VECTORBT}-{sys.implementation.cache_tag}"
    python, finished = folder / "bin" / "python", folder / "installed"
    packages = sysconfig.get_path("purelib")
    if finished.is_file() and finished.read_text() == packages:
        return python
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", "--clear", folder], check=True)
    site = folder / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}"
    (site / "site-packages" / "ours.pth").write_text(packages)
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run(
        [*install, "--no-compile", f"vectorbt=={VECTORBT}"], capture_output=True, text=True
    )
    if done.returncode:
        reason = " ".join(done.stderr.splitlines()[-1:])
        pytest.fail(f"vectorbt {VECTORBT} cannot be installed, for its example: {reason}", False)
    finished.write_text(packages)
    return python


SIGNALS = """
import runpy, sys
sys.argv = [sys.argv[1], "AAPL"]
portfolio = runpy.run_path(sys.argv[0])["portfolio"]
for trade in portfolio.trades.records.itertuples():
    print("trade", trade.entry_idx, trade.entry_price, trade.exit_idx, trade.status)
"""


def test_the_signals_of_vectorbt_trade_on_the_stored_forecasts(
    tmp_path: Path, sqlite_url: str
) -> None:
    bars = rises_and_falls(sqlite_url)
    env = {
        **os.environ, "DATABASE_URL": sqlite_url, "KRONOS_DATA_SOURCE": "sample",
        "NUMBA_DISABLE_JIT": "1",  # compiling takes two minutes, the 500 bars less than a second
        "PYTHONPATH": str(ROOT),
    }  # fmt: skip
    script = str(ROOT / "examples" / "vectorbt_signals.py")
    command = [python_with_vectorbt(), "-W", "ignore", "-c", SIGNALS, script]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Total Trades" in done.stdout
    found = [line.split()[1:] for line in done.stdout.splitlines() if line.startswith("trade ")]
    count = len(bars)
    assert [(int(row[0]) - count, int(row[2]) - count) for row in found] == [(-39, -29), (-19, -1)]
    assert [float(row[1]) for row in found] == pytest.approx(bars["open"].iloc[[-39, -19]].tolist())
    assert [row[3] for row in found] == ["1", "0"], "the last one is still open"
