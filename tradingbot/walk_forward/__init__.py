"""Forecasts of the past for one model: windows, runner, results file."""
