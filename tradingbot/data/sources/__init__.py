"""One module per source of candles, and the registry that opens them by name."""
