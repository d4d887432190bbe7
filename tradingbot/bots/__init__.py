"""Strategies with a paper account: account, broker, runner, backtest, tickers."""
