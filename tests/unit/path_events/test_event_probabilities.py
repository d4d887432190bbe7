"""Events on paths: when bars prove them, and their known probabilities for Brownian motion."""

import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tradingbot.path_events.event_probabilities import chances, happened_by_step, wilson
from tradingbot.path_events.grammar import parse_event
from tradingbot.typing import Floats

LAST = 100.0
normal_cdf = NormalDist().cdf


# what bars prove ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "bars", "happened"),
    [
        # open, high, low, close
        ("touch +2%", [(100, 102, 99, 100), (100, 101, 99, 100)], [True, True]),
        ("touch +2%", [(100, 101.99, 99, 100), (103, 104, 103, 104)], [False, True]),
        ("touch -2%", [(100, 101, 98.01, 99), (99, 99, 98, 98)], [False, True]),
        ("touch 102", [(100, 102, 99, 100)], [True]),
        ("close above 0%", [(100, 101, 99, 100), (100, 101, 99, 100.01)], [False, True]),
        ("close below 0%", [(100, 101, 99, 100), (100, 101, 99, 99.99)], [False, True]),
        ("close above 2%", [(100, 105, 99, 101), (101, 105, 100, 103)], [False, True]),
        ("return between -1% and +1%", [(100, 105, 95, 101), (100, 105, 95, 99)], [True, True]),
        ("return between -1% and +1%", [(100, 105, 95, 101.1), (100, 105, 95, 100)], [False, True]),
        # take-profit first, in a bar of its own
        ("reach +3% before -2%", [(100, 103, 99, 102), (102, 102, 90, 91)], [True, True]),
        # the stop first: what comes later does not count
        ("reach +3% before -2%", [(100, 101, 98, 99), (99, 110, 99, 109)], [False, False]),
        # both in one bar: not proven, for either
        ("reach +3% before -2%", [(100, 103, 98, 101), (101, 110, 101, 109)], [False, False]),
        ("reach -2% before +3%", [(100, 103, 98, 101), (101, 110, 90, 91)], [False, False]),
        # both in one bar that opens beyond one of them
        ("reach +3% before -2%", [(103.5, 104, 97, 98)], [True]),
        ("reach -2% before +3%", [(103.5, 104, 97, 98)], [False]),
        ("reach +3% before -2%", [(97, 104, 96, 103)], [False]),
        ("reach 98 before 103", [(97, 104, 96, 103)], [True]),
        ("drawdown above 2%", [(100, 104, 100, 104), (104, 104, 101, 103)], [False, True]),
        # within a bar, from the high to the close and from the open to the low
        ("drawdown above 2%", [(100, 104, 100, 101)], [True]),
        ("drawdown above 2%", [(104, 104, 101, 104)], [True]),
        # the low may have come before the high
        ("drawdown above 2%", [(100, 104, 99, 104)], [False]),
        ("drawdown above 2%", [(100, 100, 98, 100)], [False]),  # exactly two
        ("range above 4%", [(100, 102, 98, 100), (100, 100, 97.9, 98)], [False, True]),
        ("range above 4%", [(110, 112, 110, 112)], [False]),  # of the bars alone
    ],
)
def test_an_event_counts_as_happened_if_the_bars_prove_it(
    text: str, bars: list[tuple[float, ...]], happened: list[bool]
) -> None:
    assert (
        happened_by_step(parse_event(text), np.array(bars, dtype=float), LAST).tolist() == happened
    )


def test_rounding_of_prices_does_not_change_an_events_outcome() -> None:
    last = 0.1 + 0.2
    bars = np.full((1, 4), last * 1.02)
    bars *= 1 + np.array([-2e-16, 2e-16, -2e-16, -2e-16])
    assert happened_by_step(parse_event("touch +2%"), bars, last).all()
    assert not happened_by_step(parse_event("close above +2%"), bars, last).any()
    assert not happened_by_step(parse_event("close below +2%"), bars, last).any()


@pytest.mark.parametrize(
    "text",
    ["touch +2%", "touch 99", "reach +3% before -2%", "close above 101", "drawdown above 3%",
     "range above 4%", "return between -1% and +1%"],
)  # fmt: skip
def test_paths_with_individual_last_closes_and_ends_equal_single_ones(text: str) -> None:
    paths = candles(walks(20, bars=8, sigma=0.05, rng=np.random.default_rng(3), pieces=4))
    last, ends = np.linspace(97, 103, 20), np.arange(20) % 8 + 1
    for path, end in zip(paths, ends, strict=True):
        path[end:] = np.nan
    event = parse_event(text)
    together = happened_by_step(event, paths, last[:, None])
    for path, close, end, found in zip(paths, last, ends, together, strict=True):
        assert found[:end].tolist() == happened_by_step(event, path[:end], float(close)).tolist()


@given(seed=st.integers(0, 10_000), move=st.floats(0.1, 6.0).map(lambda x: round(x, 2)))
def test_answers_do_not_contradict_each_other(seed: int, move: float) -> None:
    paths = candles(
        walks(30, bars=6, sigma=0.02, rng=np.random.default_rng(seed), pieces=4)
    )  # rough, so that bars overlap

    def happens(text: str) -> Floats:
        return happened_by_step(parse_event(text), paths, LAST).astype(float)

    assert (happens(f"touch +{move}%") >= happens(f"close above +{move}%")).all()
    assert (happens(f"touch -{move}%") >= happens(f"close below -{move}%")).all()
    up, down = f"reach +{move}% before -{move}%", f"reach -{move}% before +{move}%"
    assert (happens(up) + happens(down) <= 1).all()
    assert (happens(f"touch +{move}%") >= happens(up)).all()
    inside = happens(f"return between -{move}% and +{move}%")
    outside = happens(f"close above +{move}%") + happens(f"close below -{move}%")
    assert (inside + outside == 1).all()
    for text in (up, f"touch +{move}%", f"drawdown above {move}%", f"range above {move}%"):
        assert (np.diff(happens(text), axis=1) >= 0).all()  # what has happened stays so


# the Monte Carlo error ---------------------------------------------------------------------------


def test_zero_of_fifty_paths_is_not_a_zero_probability() -> None:
    [chance] = chances([parse_event("touch +50%")], np.full((50, 2, 5), LAST), LAST)
    assert chance.probability == (0.0, 0.0)
    assert chance.low == pytest.approx((0.0, 0.0), abs=1e-12)
    assert chance.high == pytest.approx((0.0713, 0.0713), abs=1e-4)  # Wilson's for 0 of 50
    assert chance.mean is None


def test_sizes_have_a_mean_and_a_standard_error() -> None:
    paths = np.full((2, 1, 5), LAST)
    paths[0, 0, 2], paths[1, 0, 2] = 96.0, 92.0
    [chance] = chances([parse_event("drawdown above 5%")], paths, LAST)
    assert chance.probability == (0.5,)
    assert chance.mean == pytest.approx((6.0,))
    assert chance.mean_error == pytest.approx((2.0,))  # sqrt(8) ÷ sqrt(2)
    [alone] = chances([parse_event("drawdown above 5%")], paths[:1], LAST)
    assert alone.mean == pytest.approx((4.0,))
    assert alone.mean_error is None


def test_the_interval_contains_the_true_probability_in_95_per_cent_of_cases() -> None:
    rng = np.random.default_rng(1)
    for chance in (0.02, 0.3, 0.5):
        low, high = wilson(rng.binomial(50, chance, 4000) / 50, 50)
        assert 0.9 < ((low <= chance) & (chance <= high)).mean() <= 0.99


# a geometric Brownian motion ---------------------------------------------------------------------

PATHS, BARS, PIECES = 4000, 24, 8
SIGMA, DRIFT = 0.05, 0.02  # of the logarithm, over the whole horizon


def walks(
    count: int,
    *,
    bars: int,
    sigma: float,
    drift: float = 0.0,
    rng: np.random.Generator,
    pieces: int,
) -> tuple[Floats, Floats, Floats]:
    """Return log prices at the end of each piece of each bar, and the extremes within each piece.

    sigma and drift are those of all bars together. The extremes are drawn from the distribution of
    a Brownian bridge, so that none is missed between two pieces.
    """
    step = sigma / math.sqrt(bars * pieces)
    moves = step * rng.standard_normal((count, bars * pieces)) + drift / (bars * pieces)
    ends = np.cumsum(moves, axis=1)
    starts = np.concatenate([np.zeros((count, 1)), ends[:, :-1]], axis=1)
    up, down = (
        np.sqrt(moves**2 - 2 * step**2 * np.log(rng.uniform(size=moves.shape))) for _ in range(2)
    )
    middle, shape = (starts + ends) / 2, (count, bars, pieces)
    return ends.reshape(shape), (middle + up / 2).reshape(shape), (middle - down / 2).reshape(shape)


def candles(walk: tuple[Floats, Floats, Floats]) -> Floats:
    """Return (paths, bars, 5): open, high, low, close and a volume."""
    ends, highs, lows = walk
    closes = ends[..., -1]
    opens = np.concatenate([np.zeros_like(closes[:, :1]), closes[:, :-1]], axis=1)
    prices = np.stack([opens, highs.max(axis=2), lows.min(axis=2), closes, opens], axis=2)
    return LAST * np.exp(prices)


@pytest.fixture(scope="module")
def brownian() -> Floats:
    rng = np.random.default_rng(7)
    return candles(walks(PATHS, bars=BARS, sigma=SIGMA, drift=DRIFT, rng=rng, pieces=PIECES))


@pytest.fixture(scope="module")
def driftless() -> Floats:
    rng = np.random.default_rng(8)
    return candles(walks(PATHS, bars=64, sigma=SIGMA, rng=rng, pieces=4))


def agree(found: float, expected: float, *, bias: float = 0.0) -> None:
    """Check that both agree within 3.5 standard errors, plus the `bias` of judging by bars."""
    error = math.sqrt(expected * (1 - expected) / PATHS)
    assert found == pytest.approx(expected, abs=3.5 * error + bias)


def above(log: float, time: float) -> float:
    """Return P(close > LAST * exp(log)) after this share of the horizon."""
    return normal_cdf((DRIFT * time - log) / (SIGMA * math.sqrt(time)))


def maximum_above(log: float, time: float, drift: float) -> float:
    """Return P(the highest price > LAST * exp(log)), log > 0, by the reflection principle."""
    deviation = SIGMA * math.sqrt(time)
    return normal_cdf((drift * time - log) / deviation) + math.exp(
        2 * drift * log / SIGMA**2
    ) * normal_cdf((-drift * time - log) / deviation)


def upper_first(up: float, down: float, time: float) -> float:
    """Return P(+up is reached before -down, by `time`), logarithms; Darling and Siegert (1953)."""
    width, scale = up + down, 2 * DRIFT / SIGMA**2
    ever = (1 - math.exp(-scale * down)) / (1 - math.exp(-scale * width))
    later = 0.0
    for n in range(1, 60):
        rate = DRIFT**2 / (2 * SIGMA**2) + (n * math.pi * SIGMA / width) ** 2 / 2
        term = n * (-1) ** (n + 1) * math.sin(n * math.pi * down / width)
        later += term * math.exp(-rate * time) / rate
    return ever - math.exp(DRIFT * up / SIGMA**2) * math.pi * (SIGMA / width) ** 2 * later


def probability(text: str, paths: Floats, step: int) -> float:
    [chance] = chances([parse_event(text)], paths, LAST)
    return chance.probability[step - 1]


@pytest.mark.parametrize("step", [1, 6, BARS])
@pytest.mark.parametrize("move", [-4, -1, 0, 2, 5])
def test_closes_above_and_below_are_lognormal(brownian: Floats, step: int, move: float) -> None:
    expected = above(math.log1p(move / 100), step / BARS)
    agree(probability(f"close above {move:+}%", brownian, step), expected)
    agree(probability(f"close below {move:+}%", brownian, step), 1 - expected)


def test_returns_between_are_lognormal(brownian: Floats) -> None:
    for step in (3, BARS):
        time = step / BARS
        expected = above(math.log(0.98), time) - above(math.log(1.03), time)
        agree(probability("return between -2% and +3%", brownian, step), expected)


@pytest.mark.parametrize("step", [1, 8, BARS])
@pytest.mark.parametrize("move", [1, 3, 6])
def test_touches_follow_the_reflection_principle(brownian: Floats, step: int, move: float) -> None:
    time = step / BARS
    up = maximum_above(math.log1p(move / 100), time, DRIFT)
    down = maximum_above(-math.log1p(-move / 100), time, -DRIFT)
    agree(probability(f"touch +{move}%", brownian, step), up)
    agree(probability(f"touch -{move}%", brownian, step), down)
    agree(probability(f"touch {LAST + move}", brownian, step), up)


@pytest.mark.parametrize("step", [6, 12, BARS])
@pytest.mark.parametrize(("profit", "stop"), [(4, 4), (6, 3), (3, 5)])
def test_take_profit_before_stop_loss_is_between_two_barriers(
    brownian: Floats, step: int, profit: float, stop: float
) -> None:
    expected = upper_first(math.log1p(profit / 100), -math.log1p(-stop / 100), step / BARS)
    agree(probability(f"reach +{profit}% before -{stop}%", brownian, step), expected)


def test_the_largest_drawdown_of_a_driftless_walk_has_the_theoretical_distribution(
    driftless: Floats,
) -> None:
    """Lévy: the distance below the running maximum is distributed as the walk's absolute value."""
    [chance] = chances([parse_event("drawdown above 5%")], driftless, LAST)
    depth = -math.log(0.95)
    stays = sum(
        (-1) ** k / (2 * k + 1) * math.exp(-(((2 * k + 1) * math.pi * SIGMA / depth) ** 2) / 8)
        for k in range(20)
    )
    agree(chance.probability[-1], 1 - 4 / math.pi * stays, bias=0.015)
    assert chance.mean is not None
    assert chance.mean_error is not None
    deep = math.sqrt(math.pi / 2) * SIGMA  # of the logarithm; of the price it is a little less
    in_price = deep - (2 * 0.9159655941772190) * SIGMA**2 / 2  # Catalan's: the mean square is 2 C
    assert chance.mean[-1] / 100 == pytest.approx(
        in_price, abs=3.5 * chance.mean_error[-1] / 100 + 0.02 * deep
    )


def test_the_mean_range_of_a_driftless_walk_equals_fellers_formula(driftless: Floats) -> None:
    [chance] = chances([parse_event("range above 8%")], driftless, LAST)
    assert chance.mean is not None
    assert chance.mean_error is not None
    for step in (16, 64):
        feller = math.sqrt(8 / math.pi * step / 64) * SIGMA
        error = 3.5 * chance.mean_error[step - 1] / 100
        assert chance.mean[step - 1] / 100 == pytest.approx(feller, abs=error + 0.01 * feller)
