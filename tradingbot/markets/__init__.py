"""Facts about tickers, without I/O: exchange calendars, symbols, asset classes, candle frames."""
