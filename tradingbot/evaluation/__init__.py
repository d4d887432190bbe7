"""Compare forecasts with outcomes: metrics, baselines, statistics, scoring, track record."""
