"""Draw the picture of the documentation: a forecast of the sample as a fan, and realised closes.

python examples/forecast_picture.py docs/images/forecast.svg
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from tradingbot import KronosClient
from tradingbot.data.service import DataService
from tradingbot.forecast import Forecast
from tradingbot.space.local import local_space

SYMBOL, HORIZON, PAST, PATHS = "GOOG", 15, 45, 256
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 860, 400, 20, 60, 50, 62
BANDS = ((0.05, 0.95, "#dbe9f6"), (0.1, 0.9, "#b7d4ea"), (0.25, 0.75, "#7fb2d9"))


def main(path: str = "forecast.svg") -> None:
    data = DataService("sample", horizon=HORIZON)
    history = data.history(SYMBOL)
    with local_space() as url, KronosClient(url, data=data, samples=PATHS) as client:
        [(_, forecast)] = client.forecast_many({SYMBOL: history}, HORIZON, seed=1)
    if isinstance(forecast, Exception):
        raise forecast
    outcome = data.outcome(SYMBOL, [bar.target_date for bar in forecast.bars])
    Path(path).write_text(svg(history.tail(PAST), forecast, list(outcome.values())))
    print(path)


def svg(past: pd.DataFrame, forecast: Forecast, outcome: Sequence[float]) -> str:
    """Return an SVG: past candles, quantiles of future closes, a circle for each realised close."""

    def fan(level: float) -> list[float]:
        return [forecast.last_close, *(bar.close_quantiles[level] for bar in forecast.bars)]

    low = min(past["low"].min(), *fan(0.05), *outcome)
    high = max(past["high"].max(), *fan(0.95), *outcome)
    days = [*past.index, *(bar.target_date for bar in forecast.bars)]
    today = len(past) - 1

    def x(day: int) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (day + 0.5) / len(days)

    def y(price: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (high - price) / (high - low)

    def line(prices: Sequence[float]) -> list[str]:
        return [f"{x(today + n):.1f},{y(price):.1f}" for n, price in enumerate(prices)]

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="13" fill="#333">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        text(LEFT, 26, f"{SYMBOL}: {PATHS} paths of {forecast.model_name}, drawn from the candles "
             f"up to {forecast.as_of:%d %b %Y}"),
        text(LEFT, HEIGHT - 10,
             "blue: median, 50 %, 80 % and 90 % range of the close; circles: what happened"),
    ]  # fmt: skip
    for below, above, colour in BANDS:
        corners = " ".join([*line(fan(below)), *reversed(line(fan(above)))])
        parts.append(f'<polygon points="{corners}" fill="{colour}"/>')
    median = " ".join(line(fan(0.5)))
    parts.append(f'<polyline points="{median}" fill="none" stroke="#1f5f99" stroke-width="2"/>')
    parts += [candle(x(n), bar, y) for n, bar in enumerate(past.itertuples())]
    parts += [
        f'<circle cx="{x(today + n):.1f}" cy="{y(price):.1f}" r="3.5" fill="white" '
        'stroke="black" stroke-width="1.5"/>'
        for n, price in enumerate(outcome, start=1)
    ]
    step = 20 * max(1, round((high - low) / 120))
    for price in range(int(low // step + 1) * step, int(high) + 1, step):
        parts.append(text(WIDTH - RIGHT + 8, y(price) + 4, str(price)))
    for day in (0, today // 2, today, len(days) - 1):
        parts.append(text(x(day), HEIGHT - 36, f"{days[day]:%d %b}", "middle"))
    return "\n".join([*parts, "</svg>\n"])


def candle(x: float, bar: Any, y: Callable[[float], float]) -> str:
    colour = "#2a8a4a" if bar.close >= bar.open else "#b03a2e"
    top, bottom = sorted((y(bar.open), y(bar.close)))
    return (
        f'<path d="M{x:.1f} {y(bar.high):.1f}V{y(bar.low):.1f}" stroke="{colour}"/>'
        f'<rect x="{x - 4:.1f}" y="{top:.1f}" width="8" height="{max(bottom - top, 1):.1f}" '
        f'fill="{colour}"/>'
    )


def text(x: float, y: float, words: str, anchor: str = "start") -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}">{words}</text>'


if __name__ == "__main__":
    main(*sys.argv[1:])
