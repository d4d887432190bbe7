"""A forecast as a fan chart, with the realised closes: cells for a notebook, or a script.

python examples/forecast_fan.py    # writes forecast_fan.html
"""

# %% Forecast ten days, as of ten sessions before the end of the sample
import plotly.graph_objects as go

from tradingbot import KronosClient
from tradingbot.data.service import DataService
from tradingbot.space.local import local_space

symbol, horizon = "AAPL", 10
data = DataService("sample", horizon=horizon)
history = data.history(symbol)
with local_space() as url, KronosClient(url, data=data, samples=100) as client:
    [(_, forecast)] = client.forecast_many({symbol: history}, horizon)
if isinstance(forecast, Exception):
    raise forecast

# %% The realised closes
days = [bar.target_date for bar in forecast.bars]
outcome = data.outcome(symbol, days)
inside = sum(
    bar.close_quantiles[0.1] <= outcome[bar.target_date] <= bar.close_quantiles[0.9]
    for bar in forecast.bars
)
print(f"{symbol} as of {forecast.as_of:%Y-%m-%d}, {forecast.model_name}:")
print(f"{inside} of {horizon} closes lie inside their 10-90 % range")

# %% The fan, darker where more paths end
past = history["close"].tail(40)
fan = go.Figure()
fan.add_scatter(x=past.index, y=past, name="close", line={"color": "black"})
for low, high in ((0.05, 0.95), (0.1, 0.9), (0.25, 0.75)):
    edge = {"x": [forecast.as_of, *days], "mode": "lines", "line": {"width": 0}}
    for level, fill in ((low, None), (high, "tonexty")):
        prices = [bar.close_quantiles[level] for bar in forecast.bars]
        fan.add_scatter(
            **edge,
            y=[forecast.last_close, *prices],
            fill=fill,
            fillcolor="rgba(31, 119, 180, 0.25)",
            name=f"{low:.0%} to {high:.0%}",
            showlegend=fill is not None,
        )
fan.add_scatter(x=days, y=[outcome[day] for day in days], name="what happened", mode="markers")
fan.update_layout(title=f"{symbol} as {forecast.model_name} saw it on {forecast.as_of:%Y-%m-%d}")

# %% fan.show() in a notebook; the script writes a page
fan.write_html("forecast_fan.html")
print("forecast_fan.html")
