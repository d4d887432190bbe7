"""Results of a backtest beyond its figures, and the search over a grid of parameters."""

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from tradingbot.bots.bot import Bot
from tradingbot.bots.optimization import deflated, deflated_sharpe, sharpe_per_bar
from tradingbot.data.service import DataService
from tradingbot.errors import ConfigError
from tradingbot.settings import Settings


class Trend(Bot):
    def decisionFunction(self, row: Any) -> int:
        window = self.params.get("window", 5)
        return 1 if row["close"] > self.history["close"].iloc[-window:].mean() else -1


@pytest.fixture(scope="module")
def bars() -> pd.DataFrame:
    return DataService("sample").history("AAPL", bars=400)


def test_each_sale_has_its_profit_and_the_curves_are_consistent() -> None:
    bars = pd.DataFrame({"open": [10.0, 10, 20, 20, 40], "close": [10.0, 15, 20, 30, 40]})
    bars["high"], bars["low"] = bars.max(axis=1), bars.min(axis=1)
    bars.index = pd.date_range("2024-01-01", periods=5)

    class Once(Bot):
        def decisionFunction(self, row: Any) -> int:
            return {1: 1, 3: -1}.get(row.name.day, 0)

    result = Once("b", "X", settings=Settings(slippage_bps=100)).backtest(bars, cash=1_010.0)
    # 100 bought at 10 for 1,000 plus costs of 10, sold at 20 for 2,000 less 20
    assert math.isnan(result.trades["pnl"][0])
    assert result.trades["pnl"][1] == pytest.approx(1_980 - 1_010)
    frame = result.to_frame()
    assert list(frame["equity"]) == pytest.approx([1_010, 1_500, 2_000, 1_980, 1_980])
    assert list(frame["invested"]) == pytest.approx([0, 1_500, 2_000, 0, 0])
    assert list(frame["buy_and_hold"]) == pytest.approx([1_010, 1_500, 2_000, 3_000, 4_000])
    assert list(frame["drawdown"]) == pytest.approx([0, 0, 0, 0.01, 0.01])
    assert result.exposure == pytest.approx(2 / 5)
    assert result.turnover == pytest.approx(3_000 / np.mean([1_010, 1_500, 2_000, 1_980, 1_980]))
    nothing = Bot.backtest(NeverTrades("b", "X", settings=Settings()), bars)
    assert (nothing.exposure, nothing.turnover, len(nothing.trades)) == (0.0, 0.0, 0)
    assert nothing.trades.dtypes["pnl"] == "float64"


class NeverTrades(Bot):
    def decisionFunction(self, row: Any) -> int:
        return 0


@pytest.mark.slow
def test_the_picture_shows_the_bot_its_trades_and_buy_and_hold(bars: pd.DataFrame) -> None:
    result = Trend("b", "AAPL", settings=Settings()).backtest(bars)
    figure = result.plot()
    assert [trace.name for trace in figure.data] == [
        "this bot", "buy and hold", "buy", "sell", "drawdown",
    ]  # fmt: skip
    assert list(figure.data[0].y) == list(result.equity)
    assert len(figure.data[2].x) == (result.trades["side"] == "buy").sum()


def test_without_plotly_the_picture_says_what_to_install(
    bars: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "plotly.subplots", None)
    with pytest.raises(ConfigError, match=r"pip install 'plotly>="):
        Trend("b", "AAPL", settings=Settings()).backtest(bars).plot()


def test_the_deflated_sharpe_ratio_equals_the_papers_example() -> None:
    # Bailey and López de Prado (2014): 100 trials over 5 years of 250 days, annual ratio 2.5,
    # variance of the trials' annual ratios 1/2, skewness -3, kurtosis 10: 0.9004
    found = deflated(
        2.5 / math.sqrt(250), count=1250, trials=100, variance=0.5 / 250, skew=-3, kurtosis=10
    )
    assert found == pytest.approx(0.9004, abs=1e-4)


def test_moments_and_ratios_equal_scipys() -> None:
    returns = np.random.default_rng(1).standard_t(4, size=(7, 300)) / 100 + 0.0005
    ratios = sharpe_per_bar(returns)
    assert ratios == pytest.approx(returns.mean(axis=1) / returns.std(axis=1, ddof=1))
    assert deflated_sharpe(returns[2], ratios) == pytest.approx(
        deflated(
            ratios[2], count=300, trials=7, variance=ratios.var(ddof=1),
            skew=stats.skew(returns[2]), kurtosis=stats.kurtosis(returns[2], fisher=False),
        )
    )  # fmt: skip
    assert math.isnan(deflated_sharpe(np.zeros(9), np.zeros(3)))


def test_the_best_of_many_unskilled_strategies_is_rarely_significant() -> None:
    random = np.random.default_rng(7)
    believed, naive = 0, 0
    for _ in range(200):
        returns = random.normal(0, 0.01, size=(50, 250))
        ratios = sharpe_per_bar(returns)
        best = returns[np.argmax(ratios)]
        believed += deflated_sharpe(best, ratios) > 0.95
        naive += deflated_sharpe(best, ratios[:1]) > 0.95
    assert naive > 150
    assert believed < 20


@pytest.mark.slow
def test_a_grid_search_reports_the_number_of_trials_and_a_walk_forward(
    bars: pd.DataFrame,
) -> None:
    bot = Trend("b", "AAPL", settings=Settings())
    found = bot.optimize({"window": [3, 10, 30], "unused": [1, 2]}, bars, folds=4)
    assert len(found.trials) == 6
    assert bot.params == {}, "the bot is as it was"
    one_by_one = {
        window: Trend("b", "AAPL", settings=Settings(), window=window).backtest(bars)
        for window in (3, 10, 30)
    }
    for row in found.trials.itertuples():
        assert row.total_return == one_by_one[row.window].measures.total_return
    best = max(one_by_one, key=lambda window: one_by_one[window].measures.sharpe)
    assert found.best["window"] == best
    assert found.to_frame()["window"][0] == best
    assert "best of 6 trials: window=" in str(found)
    assert 0 <= found.deflated_sharpe <= 1
    # each window uses the best parameters of the data before it, and windows do not overlap
    returns = {window: done.equity.pct_change() for window, done in one_by_one.items()}
    grown = 1.0
    for fold in found.folds.itertuples():
        before = {w: r[r.index < fold.first] for w, r in returns.items()}
        assert fold.window == max(before, key=lambda w: before[w].mean() / before[w].std())
        within = returns[fold.window].loc[fold.first : fold.last]
        assert fold.total_return == pytest.approx((1 + within).prod() - 1)
        grown *= 1 + fold.total_return
    assert found.out_of_sample.total_return == pytest.approx(grown - 1)
    assert (
        found.folds["first"].iloc[1:].to_numpy() > found.folds["last"].iloc[:-1].to_numpy()
    ).all()
    assert found.folds["last"].iloc[-1] == bars.index[-1]


@pytest.mark.parametrize(
    ("grid", "options", "says"),
    [
        ({}, {}, "expected parameters of the strategy"),
        ({"window": []}, {}, "expected parameters of the strategy"),
        ({"tickers": [["AAPL"]]}, {}, "expected parameters of the strategy"),
        *[
            (grid, {}, "expected parameters of the strategy")
            for grid in (
                {"window": 3},
                {5: [1]},
                [("window", [3])],
                {"_period_days": [1]},
                {"data": [1]},
                {"sessions": [1]},
                {"costs": [1]},
                {"decisionFunction": [1]},
                {"": [1]},
                None,
            )
        ],
        ({"window": [3]}, {"folds": 2.5}, "folds=2.5"),
        ({"peroid": ["1y"]}, {}, "did you mean period"),
        ({"window": [3]}, {"folds": 0}, "folds=0"),
        ({"window": [3]}, {"folds": 300}, "the history has 400 bars only"),
    ],
)
def test_an_impossible_search_is_refused(
    bars: pd.DataFrame, grid: Any, options: Any, says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        Trend("b", "AAPL", settings=Settings()).optimize(grid, bars, **options)


def test_attributes_are_parameters_too(bars: pd.DataFrame) -> None:
    class Levels(Bot):
        def __init__(self, *args: Any, level: float = 400.0, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.level = level

        def decisionFunction(self, row: Any) -> int:
            return 1 if row["close"] > self.level else -1

    bot = Levels("b", "AAPL", settings=Settings())
    found = bot.optimize({"level": [400.0, 1e9]}, bars, folds=2)
    assert found.trials["trades"].tolist()[1] == 0
    assert found.trials["trades"].tolist()[0] > 0
    assert bot.level == 400.0


class Attribute(Bot):
    window = 5  # a class attribute, as in strategies of backtesting.py

    def decisionFunction(self, row: Any) -> int:
        return 1 if row["close"] > self.history["close"].iloc[-self.window :].mean() else -1


class Derives(Bot):
    def __init__(self, *args: Any, window: int = 5, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.half = window // 2
        self.seen: list[int] = []

    def decisionFunction(self, row: Any) -> int:
        self.seen.append(self.half)
        if len(self.seen) > 400:
            raise AssertionError("what another trial has left behind")
        return 1 if row["close"] > self.history["close"].iloc[-2 * self.half :].mean() else -1


class Alone(Derives):
    def __init__(self, window: int = 5) -> None:
        super().__init__("b", "AAPL", settings=Settings(), window=window)


def made(kind: type[Bot], **options: Any) -> Bot:
    return kind(**options) if kind is Alone else kind("b", "AAPL", settings=Settings(), **options)


@pytest.mark.parametrize("kind", [Trend, Attribute, Derives, Alone])
def test_each_trial_is_the_bot_made_with_its_parameters(bars: pd.DataFrame, kind: Any) -> None:
    found = made(kind).optimize({"window": [4, 20]}, bars)
    for row in found.trials.itertuples():
        if kind is Attribute:
            bot = made(type("Changed", (Attribute,), {"window": row.window}))
        else:
            bot = made(kind, window=row.window)
        assert row.total_return == bot.backtest(bars).measures.total_return
    assert found.trials["total_return"].nunique() == 2


def test_attributes_set_after_construction_apply_to_the_trials(bars: pd.DataFrame) -> None:
    bot = made(Derives)
    bot.half = 10  # type: ignore[attr-defined]
    bot.use(symbols=["IBM"])
    found = bot.optimize({"other": [1, 2]}, bars)
    assert set(found.result.trades["symbol"]) == {"IBM"}
    expected = made(Derives, window=20).backtest(bars).measures.total_return
    assert found.trials["total_return"].tolist() == [expected] * 2


@pytest.mark.parametrize(
    ("bot", "name", "meant"),
    [(made(Trend, window=3), "windw", "window"), (made(Attribute), "fil", "fill"),
     (made(Derives), "halff", "half"), (made(Attribute), "windw", "window")],
)  # fmt: skip
def test_a_misspelt_parameter_of_a_grid_is_refused(
    bars: pd.DataFrame, bot: Bot, name: str, meant: str
) -> None:
    with pytest.raises(ConfigError, match=f"{name}=: did you mean {meant}="):
        bot.optimize({name: [1, 2]}, bars)
