"""Required skill of combined forecasts on simulated markets, for good and bad models."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import NormalDist

import numpy as np
import pandas as pd
import pytest

from tradingbot.evaluation.metric_sums import crps
from tradingbot.forecast import QUANTILE_LEVELS
from tradingbot.postprocessing.combination import Panel, joined, replay, without_record
from tradingbot.postprocessing.experts import EXPERTS, expert_quantiles
from tradingbot.typing import Floats

STEP, BEFORE, SESSIONS, TICKERS = 1, 300, 400, 6
DAYS = pd.bdate_range("2020-01-01", periods=BEFORE + SESSIONS + STEP)
NORMAL = np.array([NormalDist().inv_cdf(level) for level in QUANTILE_LEVELS])
RANDOM, EWMA, RANGE = range(3)  # indices of the experts


@dataclass(frozen=True)
class Market:
    """Tickers with volatility clusters.

    volatility: (bars, tickers). candles: one frame per ticker.
    """

    volatility: Floats
    candles: list[pd.DataFrame]

    @cached_property
    def experts(self) -> list[tuple[Floats, Floats]]:
        """Return `expert_quantiles` of each ticker; they do not depend on the model."""
        found = []
        for bars in self.candles:
            origins = bars.index.to_numpy().astype("M8[s]")[_origins(bars)]
            found.append(expert_quantiles(bars, origins, np.full(len(origins), STEP)))
        return found

    def panel(self, model: Callable[[Floats, Floats], tuple[Floats, Floats]]) -> Panel:
        """Build a panel; `model` returns medians and widths (n,) from true and EWMA volatility."""
        return joined([self._of(ticker, model) for ticker in range(len(self.candles))])

    def _of(self, ticker: int, model: Callable[[Floats, Floats], tuple[Floats, Floats]]) -> Panel:
        bars, (experts, scale) = self.candles[ticker], self.experts[ticker]
        origins = _origins(bars)
        times = bars.index.to_numpy().astype("M8[s]")
        closes = np.log(bars["close"].to_numpy())
        coming = self.volatility[-len(bars) :, ticker][origins + STEP]
        median, width = model(coming, np.nan_to_num(scale, nan=0.01))
        return Panel(
            as_of=times[origins],
            target=times[origins + STEP],
            scale=scale,
            actual=closes[origins + STEP] - closes[origins],
            model=median[:, None] + width[:, None] * NORMAL,
            experts=experts,
        )


def _origins(bars: pd.DataFrame) -> np.ndarray:
    return np.arange(max(0, len(bars) - SESSIONS - STEP), len(bars) - STEP)


def market(seed: int = 0, *, times: Floats | float = 1.0, waves: float = 0.25) -> Market:
    """Simulate a market. `times` (bars,) scales the volatility; `waves`: its log change per bar."""
    random = np.random.default_rng(seed)
    bars = len(DAYS)
    logs = np.zeros((bars, TICKERS))
    for bar in range(1, bars):
        logs[bar] = 0.93 * logs[bar - 1] + waves * random.standard_normal(TICKERS)
    volatility = 0.01 * np.exp(logs) * np.broadcast_to(times, bars)[:, None]
    frames = []
    for ticker in range(TICKERS):
        steps = random.standard_normal((bars, 20)) * volatility[:, [ticker]] / 20**0.5
        paths = 100 * np.exp(np.cumsum(steps).reshape(bars, 20))
        names = ("open", "high", "low", "close")
        prices = paths[:, 0], paths.max(axis=1), paths.min(axis=1), paths[:, -1]
        frames.append(pd.DataFrame(dict(zip(names, prices, strict=True)), DAYS))
    return Market(volatility, frames)


WAVES = market()


def hopeless(coming: Floats, now: Floats) -> tuple[Floats, Floats]:
    return now, now / 4  # its median is one standard deviation off


def knowing_half(coming: Floats, now: Floats) -> tuple[Floats, Floats]:
    return np.zeros_like(now), np.sqrt(coming * now)


def plain(coming: Floats, now: Floats) -> tuple[Floats, Floats]:
    return np.zeros_like(now), 1.2 * now


def guessing(coming: Floats, now: Floats) -> tuple[Floats, Floats]:
    random = np.random.default_rng(5)
    return now * random.choice([-1.0, 1.0], len(now)), now


def skill(panel: Panel, over: int, some: np.ndarray | None = None) -> float:
    """Return the skill of combined forecasts from these sessions relative to one expert."""
    combined = replay(panel, without_record(len(EXPERTS))).combine(panel)
    rows = np.isfinite(panel.scale) & (True if some is None else np.isin(panel.as_of, some))
    ours, theirs = (
        crps(panel.actual[rows], quantiles[rows]).mean()
        for quantiles in (combined, panel.experts[:, over])
    )
    return float(1 - ours / theirs)


def sessions(panel: Panel) -> np.ndarray:
    return np.unique(panel.as_of)


def test_a_hopeless_model_in_place_of_kronos_does_no_harm() -> None:
    panel = WAVES.panel(hopeless)
    alone, walk = (crps(panel.actual, q).mean() for q in (panel.model, panel.experts[:, RANDOM]))
    assert alone > 1.3 * walk
    assert skill(panel, RANDOM) >= 0
    assert skill(panel, EWMA) >= 0


def test_an_expert_with_half_of_the_future_volatility_gets_weight() -> None:
    panel = WAVES.panel(knowing_half)
    assert skill(panel, RANDOM) >= 0.035
    assert replay(panel, without_record(len(EXPERTS))).newest.weights.argmax() == 0


@pytest.mark.parametrize("model", [plain, hopeless, knowing_half])
def test_the_first_sixty_sessions_are_no_worse_than_a_random_walk(
    model: Callable[[Floats, Floats], tuple[Floats, Floats]],
) -> None:
    panel = WAVES.panel(model)
    assert skill(panel, RANDOM, sessions(panel)[:60]) >= 0


@pytest.mark.parametrize("model", [plain, hopeless])
def test_after_a_sudden_change_of_volatility_the_combination_matches_the_ewma_walk(
    model: Callable[[Floats, Floats], tuple[Floats, Floats]],
) -> None:
    change = len(DAYS) - 100
    times = np.where(np.arange(len(DAYS)) < change, 1.0, 3.0)
    panel = market(times=times, waves=0.05).panel(model)
    start = DAYS[change].to_datetime64().astype("M8[s]")
    after = sessions(panel)[sessions(panel) >= start - np.timedelta64(1, "D")][:40]
    assert skill(panel, EWMA, after) >= -0.02


# bad input --------------------------------------------------------------------------------


def test_a_ticker_with_forty_bars_joins_as_soon_as_its_walks_exist() -> None:
    young = Market(WAVES.volatility, [*WAVES.candles[:3], WAVES.candles[3].tail(40)])
    panel = young.panel(plain)
    course = replay(panel, without_record(len(EXPERTS)))
    combined = course.combine(panel)
    asleep = np.isnan(panel.experts).all(axis=(1, 2))
    assert asleep.sum() == 32  # a walk needs 32 returns
    assert np.isfinite(combined).all()  # only Kronos has quantiles there
    assert course.newest.forecasts == len(panel) - asleep.sum()


def test_missing_quantiles_of_an_expert_affect_only_that_night() -> None:
    panel = WAVES.panel(plain)
    night = panel.as_of == sessions(panel)[200]
    asleep = panel.experts.copy()
    asleep[night, RANGE] = np.nan
    lacking = replace(panel, experts=asleep)
    assert np.isfinite(replay(lacking, without_record(len(EXPERTS))).combine(lacking)).all()
    assert skill(lacking, RANDOM) == pytest.approx(skill(panel, RANDOM), abs=0.001)


def test_a_night_without_the_models_quantiles_does_not_change_the_weights() -> None:
    panel = WAVES.panel(plain)
    night = panel.as_of == sessions(panel)[200]
    broken = panel.model.copy()
    broken[night] = np.nan
    course = replay(replace(panel, model=broken), without_record(len(EXPERTS)))
    assert course.newest.forecasts == len(panel) - night.sum()
    assert np.isfinite(course.newest.gains).all()


@pytest.mark.slow
def test_gaps_in_the_candles_remove_only_the_forecasts_in_them() -> None:
    random = np.random.default_rng(1)
    kept = random.random(len(DAYS)) > 0.2
    gaps = Market(WAVES.volatility, [bars[kept] for bars in WAVES.candles])
    panel = gaps.panel(plain)
    assert np.isfinite(replay(panel, without_record(len(EXPERTS))).combine(panel)).all()
    assert skill(panel, RANDOM) >= -0.01


def test_an_unadjusted_split_inside_the_horizon_affects_one_session() -> None:
    """The split is 10:1 or 1:10, which looks like a move of -90 % or +900 % of one ticker."""
    panel = WAVES.panel(guessing)
    row = np.flatnonzero(panel.target == sessions(panel)[100])[0]
    actual = panel.actual.copy()
    # in the direction that the model predicted
    actual[row] += np.log(10) * np.sign(panel.model[row, 9])
    split = replace(panel, actual=actual)
    later = sessions(panel)[140:]
    unsplit, with_split = (
        replay(item, without_record(len(EXPERTS))).combine(panel)[np.isin(panel.as_of, later)]
        for item in (panel, split)
    )
    truth = panel.actual[np.isin(panel.as_of, later)]
    assert crps(truth, with_split).mean() == pytest.approx(crps(truth, unsplit).mean(), rel=0.002)


def test_a_clock_set_back_loses_nothing_and_learns_nothing_twice() -> None:
    panel = WAVES.panel(plain)
    newest = replay(panel, without_record(len(EXPERTS))).newest
    early = panel[panel.target <= sessions(panel)[100]]
    assert replay(early, newest).newest == newest
