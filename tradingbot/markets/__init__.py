"""Facts about tickers, no I/O: exchange calendars, symbols, asset classes, candle frames."""
