"""Facts about tickers, no I/O.

Exchange calendars, symbols and asset classes, what a candle frame is.
"""
