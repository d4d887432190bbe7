"""From candles to a forecast: validation, normalisation, future timestamps and the answer."""
