"""Forecasts against outcomes: metrics, baselines, statistics, scoring, track record."""
