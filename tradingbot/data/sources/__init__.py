"""One module a source of candles, and the registry that opens them by name."""
